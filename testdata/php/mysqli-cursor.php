<?php
// Cursors on the server (COM_STMT_FETCH).
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS cu', 'CREATE TABLE cu (id INT PRIMARY KEY, s VARCHAR(20))', 'INSERT INTO cu SELECT seq, CONCAT("row ", seq) FROM seq_1_to_50');

foreach ([1, 7, 50, 100] as $prefetch) {
    title("prefetch $prefetch");
    $s = $m->prepare('SELECT id, s FROM cu WHERE id > ? ORDER BY id');
    show('cursor', $s->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY));
    show('prefetch', $s->attr_set(MYSQLI_STMT_ATTR_PREFETCH_ROWS, $prefetch));
    show('attribute', $s->attr_get(MYSQLI_STMT_ATTR_CURSOR_TYPE));
    foreach ([40, 0] as $from) {
        $s->bind_param('i', $from);
        show('execute', $s->execute());
        $s->bind_result($id, $text);
        $seen = [];
        while ($s->fetch()) {
            $seen[] = $id;
        }
        show('seen', [count($seen), md5(implode(',', $seen)), $text]);
    }
    $s->close();
}

title('two cursors and statements between');
$a = $m->prepare('SELECT id FROM cu ORDER BY id');
$b = $m->prepare('SELECT id FROM cu ORDER BY id DESC');
foreach ([$a, $b] as $s) {
    $s->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
    $s->execute();
}
$a->bind_result($x);
$b->bind_result($y);
for ($i = 0; $i < 5; $i++) {
    $a->fetch();
    $b->fetch();
    $one = $m->query("SELECT s FROM cu WHERE id = $x");
    show('row', [$x, $y, $one === false ? $m->error : $one->fetch_column()]);
}
scene($m, 'UPDATE cu SET s = "changed" WHERE id = 6');
$a->fetch();
show('after a write', $x);
show('reset', $a->reset());
show('fetch after reset', $a->fetch());
show('error', [$a->errno, $a->error]);
$a->close();
$b->close();

title('in a transaction');
$m->begin_transaction();
$s = $m->prepare('SELECT id FROM cu WHERE id <= ? ORDER BY id');
$s->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
$s->execute([10]);
$s->bind_result($x);
$sum = 0;
while ($s->fetch()) {
    $sum += $x;
    if ($x === 5) {
        scene($m, 'UPDATE cu SET s = "in it" WHERE id = 5');
    }
}
show('sum', $sum);
show('commit', $m->commit());
$s->close();

title('a write with a cursor');
$s = $m->prepare('UPDATE cu SET s = ? WHERE id = 1');
$s->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
show('execute', $s->execute(['with a cursor']));
show('affected', $s->affected_rows);
run($m, 'SELECT s FROM cu WHERE id IN (1, 5, 6)');
scene($m, 'DROP TABLE cu');
