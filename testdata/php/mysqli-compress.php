<?php
// The compressed protocol.
require __DIR__ . '/lib.php';
$m = connect(MYSQLI_CLIENT_COMPRESS);
scene($m, 'DROP TABLE IF EXISTS cm', 'CREATE TABLE cm (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB)');
run($m, 'SHOW SESSION STATUS LIKE "Compression"');
run($m, 'SELECT 1');
run($m, "SELECT REPEAT('abc', 100000)");
foreach ([10, 50, 51, 1000, 100000, 4000000] as $size) {
    mt_srand($size);
    $random = '';
    while (strlen($random) < min($size, 1 << 20)) {
        $random .= hash('sha256', (string) mt_rand(), true);
    }
    $random = substr(str_repeat($random, 17), 0, $size);
    $s = $m->prepare('INSERT INTO cm (b) VALUES (?)');
    show("insert $size", $s->execute([$random]));
    if ($s->errno !== 0) {
        show('error', [$s->errno, $s->error]);
        break;
    }
    show('same', $m->query("SELECT b FROM cm WHERE id = $s->insert_id")->fetch_column() === $random);
}
run($m, 'SELECT id, LENGTH(b) FROM cm');
$r = $m->query('SELECT b FROM cm ORDER BY id', MYSQLI_USE_RESULT);
$sizes = [];
while ($row = $r->fetch_row()) {
    $sizes[] = strlen($row[0]);
}
show('unbuffered', $sizes);
show('multi', $m->multi_query('SELECT 1; SELECT REPEAT("y", 70000); SELECT 3'));
do {
    show('row', $m->store_result()->fetch_row());
} while ($m->more_results() && $m->next_result());
show('ping', $m->ping());
show('error', $m->query('SELECT nope'));
echo after($m), "\n";
show('change_user', $m->change_user(getenv('DB_USER'), getenv('DB_PASSWORD'), 'app'));
run($m, 'SELECT COUNT(*) FROM cm');
title('PDO');
$p = pdo([PDO::MYSQL_ATTR_COMPRESS => true]);
show('select', strlen($p->query("SELECT REPEAT('z', 200000)")->fetchColumn()));
scene($m, 'DROP TABLE cm');
