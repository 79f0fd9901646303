<?php
// Encrypted connections.
require __DIR__ . '/lib.php';
if (getenv('DB_SOCKET')) {
    echo "PHP does not encrypt over a unix socket\n";
    exit;
}

function cipher(mysqli $m): void
{
    if ($m->connect_errno) {
        return;
    }
    $value = $m->query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")->fetch_row()[1];
    show('encrypted', $value !== '');
}

title('asked for, certificate not looked at');
$m = connect(MYSQLI_CLIENT_SSL | MYSQLI_CLIENT_SSL_DONT_VERIFY_SERVER_CERT);
show('connected', $m->connect_errno);
run($m, 'SELECT 1');
run($m, 'SELECT USER() <> ""');
scene($m, 'DROP TABLE IF EXISTS ssl_t', 'CREATE TABLE ssl_t (b LONGBLOB)');
$big = str_repeat('encrypted ', 400000);
show('a big write', $m->query("INSERT INTO ssl_t VALUES ('$big')"));
show('read back', $m->query('SELECT MD5(b) FROM ssl_t')->fetch_column() === md5($big));
show('a big read', strlen($m->query("SELECT REPEAT('x', 5000000)")->fetch_column()));
$s = $m->prepare('SELECT ? + 1');
show('prepared', [$s->execute([1]), $s->get_result()->fetch_row()]);
show('change_user', $m->change_user(getenv('DB_USER'), getenv('DB_PASSWORD'), 'app'));
run($m, 'SELECT DATABASE()');

title('with a certificate that nobody has signed');
$m = connect(MYSQLI_CLIENT_SSL, before: function ($m) {
    $m->ssl_set(null, null, getenv('DB_OTHER_CA'), null, null);
    $m->options(MYSQLI_OPT_SSL_VERIFY_SERVER_CERT, 1);
});
show('refused', mysqli_connect_errno() !== 0);

title('encrypted and compressed');
$m = connect(MYSQLI_CLIENT_SSL | MYSQLI_CLIENT_SSL_DONT_VERIFY_SERVER_CERT | MYSQLI_CLIENT_COMPRESS);
run($m, 'SELECT 1');
show('a big read', strlen($m->query("SELECT REPEAT('x', 5000000)")->fetch_column()));

title('PDO');
$p = pdo([PDO::MYSQL_ATTR_SSL_CA => getenv('DB_OTHER_CA'), PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => false]);
show('select', $p->query('SELECT 1')->fetchColumn());
scene($m, 'DROP TABLE ssl_t');
