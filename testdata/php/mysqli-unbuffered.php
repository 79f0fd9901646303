<?php
// Results that are read row by row, left unread, and asynchronous queries.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS ub', 'CREATE TABLE ub (id INT PRIMARY KEY, s VARCHAR(200))', 'INSERT INTO ub SELECT seq, REPEAT(MD5(seq), 6) FROM seq_1_to_20000');

title('all of it');
$r = $m->query('SELECT * FROM ub ORDER BY id', MYSQLI_USE_RESULT);
$sum = 0;
$hash = '';
while ($row = $r->fetch_row()) {
    $sum += (int) $row[0];
    $hash = md5($hash . $row[1]);
}
show('sum', [$sum, $hash, $r->num_rows]);
$r->free();

title('a part of it');
$r = $m->query('SELECT * FROM ub ORDER BY id', MYSQLI_USE_RESULT);
for ($i = 0; $i < 10; $i++) {
    $row = $r->fetch_row();
}
show('tenth', $row[0]);
show('another query meanwhile', $m->query('SELECT 1'));
echo after($m), "\n";
show('a write meanwhile', $m->query('DELETE FROM ub'));
echo after($m), "\n";
$r->free();
run($m, 'SELECT COUNT(*) FROM ub');

title('none of it');
$r = $m->query('SELECT * FROM ub', MYSQLI_USE_RESULT);
$r->free();
run($m, 'SELECT COUNT(*) FROM ub');
$m->real_query('SELECT * FROM ub');
show('query', $m->query('SELECT 1'));
echo after($m), "\n";
$m->use_result()->free();
run($m, 'SELECT 2');

title('closed in the middle');
$n = connect();
$r = $n->query('SELECT * FROM seq_1_to_100000', MYSQLI_USE_RESULT);
$r->fetch_row();
show('close', $n->close());
run($m, 'SELECT COUNT(*) FROM ub');

title('an error in the middle');
$r = $m->query('SELECT id, (SELECT seq FROM seq_1_to_2 WHERE seq <= IF(a.id > 15000, 2, 1)) FROM ub a ORDER BY a.id', MYSQLI_USE_RESULT);
if ($r) {
    $rows = 0;
    while ($r->fetch_row()) {
        $rows++;
    }
    show('rows', $rows);
}
echo after($m), "\n";
run($m, 'SELECT 3');

title('asynchronous');
$all = [connect(), connect(), connect()];
foreach ($all as $i => $c) {
    $c->query("SELECT $i, COUNT(*) FROM seq_1_to_1000", MYSQLI_ASYNC);
}
$rows = [];
for ($left = 3; $left > 0;) {
    $read = $error = $reject = $all;
    if (mysqli_poll($read, $error, $reject, 30) < 1) {
        echo "nothing within 30 s\n";
        break;
    }
    foreach ($read as $c) {
        if ($r = $c->reap_async_query()) {
            $rows[] = $r->fetch_row()[0];
            $r->free();
        }
        $all = array_filter($all, fn ($o) => $o !== $c);
        $left--;
    }
}
sort($rows);
show('rows', $rows);
scene($m, 'DROP TABLE ub');
