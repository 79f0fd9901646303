<?php
// Prepared statements: types, results, executing again, errors, changed tables.
require __DIR__ . '/lib.php';
$m = connect();
$m->set_charset('utf8mb4');
scene($m, 'DROP TABLE IF EXISTS ps', 'DROP TABLE IF EXISTS ps2', 'CREATE TABLE ps (id INT AUTO_INCREMENT PRIMARY KEY, i BIGINT, d DOUBLE, s VARCHAR(100), b BLOB, u VARCHAR(20) UNIQUE) CHARACTER SET utf8mb4');

function done(mysqli_stmt $s): void
{
    echo '  ', sprintf('affected %s, id %s, rows %s, %s', $s->affected_rows, $s->insert_id, $s->num_rows,
        $s->errno === 0 ? $s->sqlstate : "error $s->errno ($s->sqlstate) $s->error"), "\n";
}

title('insert');
$insert = $m->prepare('INSERT INTO ps (i, d, s, b, u) VALUES (?, ?, ?, ?, ?)');
show('parameters', $insert->param_count);
foreach ([[1, 1.5, 'žluť', "\0\xff", 'a'], [null, null, null, null, null], [PHP_INT_MAX, -1e300, str_repeat('é', 100), '', 'b'],
    [PHP_INT_MIN, 0.1, '', "x'y\\z", 'c'], [5, 5.0, 'dup', 'dup', 'a'], [6, 6.0, 'after', 'after', 'd']] as $row) {
    [$i, $d, $s, $b, $u] = $row;
    $insert->bind_param('idsss', $i, $d, $s, $b, $u);
    show('execute', $insert->execute());
    done($insert);
}
show('execute with values', $insert->execute(['7', '7.25', 'values', 'values', 'e']));
done($insert);

title('select');
$all = $m->prepare('SELECT id, i, d, s, b, u FROM ps WHERE id >= ? ORDER BY id');
for ($round = 0; $round < 3; $round++) {
    $from = $round * 2;
    $all->bind_param('i', $from);
    $all->execute();
    foreach ($all->get_result() as $row) {
        echo '  ', text($row), "\n";
    }
    done($all);
}
show('with a string', $all->execute(['3']));
show('first', $all->get_result()->fetch_row());

title('bind_result');
$some = $m->prepare('SELECT s, d FROM ps WHERE i IS NOT NULL ORDER BY id');
$some->execute();
$some->bind_result($s, $d);
while ($some->fetch()) {
    show('row', [$s, $d]);
}
$some->execute();
show('store', $some->store_result());
show('rows', $some->num_rows);
$some->data_seek(2);
$some->fetch();
show('third', [$s, $d]);
show('free', [$some->free_result()]);

title('half read, then reset');
$some->execute();
$some->fetch();
show('reset', $some->reset());
run($m, 'SELECT 1');

title('half read, then another statement');
$some->execute();
$some->fetch();
show('query', $m->query('SELECT 1'));
echo after($m), "\n";
$some->free_result();
run($m, 'SELECT 2');

title('the same text twice, at once');
$a = $m->prepare('SELECT ? + 1');
$b = $m->prepare('SELECT ? + 1');
show('a', [$a->execute([1]), $a->get_result()->fetch_row()]);
show('b', [$b->execute(['2']), $b->get_result()->fetch_row()]);
$a->close();
show('b', [$b->execute([3.5]), $b->get_result()->fetch_row()]);
$b->close();

title('errors');
foreach (['SELECT * FROM no_such_table WHERE id = ?', 'SELEC 1', '', 'SELECT no_such_column FROM ps', 'SELECT 1; SELECT 2', 'USE app; SELECT ?'] as $sql) {
    show($sql, $m->prepare($sql));
    echo '  ', after($m), "\n";
}
$s = $m->prepare('SELECT (SELECT id FROM ps WHERE id > ?)');
show('more than a row', $s->execute([0]));
done($s);
$r = $s->get_result();
done($s);
show('one row', [$s->execute([6]), $s->get_result()->fetch_row()]);
run($m, 'SELECT 3');

title('a table that changes');
$star = $m->prepare('SELECT * FROM ps WHERE id = ?');
show('before', [$star->execute([1]), $star->get_result()->fetch_assoc()]);
scene($m, 'ALTER TABLE ps ADD COLUMN z INT DEFAULT 26, DROP COLUMN b');
show('after', [$star->execute([1]), $star->get_result()->fetch_assoc()]);
scene($m, 'ALTER TABLE ps RENAME TO ps2');
show('gone', $star->execute([1]));
done($star);
scene($m, 'ALTER TABLE ps2 RENAME TO ps');
show('back', [$star->execute([1]), $star->get_result()->fetch_assoc()]);

title('read what was just written, on statements prepared before');
$read = $m->prepare('SELECT COUNT(*), MAX(s) FROM ps WHERE u LIKE ?');
$write = $m->prepare('INSERT INTO ps (s, u) VALUES (?, ?)');
for ($i = 0; $i < 10; $i++) {
    $write->execute([sprintf('s%02d', $i), "w$i"]);
    $read->execute(['w%']);
    show('count', [$write->insert_id, $read->get_result()->fetch_row()]);
}

title('many at once');
$many = [];
for ($i = 0; $i < 300; $i++) {
    $many[] = $m->prepare("SELECT ? + $i");
}
$sum = 0;
foreach ($many as $s) {
    $s->execute([1]);
    $sum += $s->get_result()->fetch_column();
}
show('sum', $sum);
foreach (array_reverse($many) as $s) {
    $s->execute([2]);
    $sum += $s->get_result()->fetch_column();
    $s->close();
}
show('sum', $sum);

title('every kind of statement');
foreach (['SET @v = ?', 'SELECT @v + ?', 'CREATE TEMPORARY TABLE pst AS SELECT ? AS n', 'SELECT n + ? FROM pst', 'DO ?', 'UPDATE ps SET s = ? WHERE id = 1', 'DELETE FROM ps WHERE id = ?',
    'SELECT LAST_INSERT_ID(), ?', 'CALL no_such_procedure(?)', 'SHOW TABLES LIKE "ps"', 'SELECT SQL_CALC_FOUND_ROWS id > 0 FROM ps WHERE id > ? LIMIT 2', 'SELECT FOUND_ROWS(), ?', 'SELECT id FROM ps WHERE id < ? FOR UPDATE'] as $sql) {
    $s = $m->prepare($sql);
    if ($s === false) {
        echo "> $sql\n  ", after($m), "\n";
        continue;
    }
    show("> $sql", $s->execute($s->param_count ? [3] : null));
    if ($r = $s->get_result()) {
        show('  rows', $r->fetch_all());
    }
    done($s);
}

title('text protocol');
foreach (["PREPARE t FROM 'SELECT ? + ?'", 'SET @a = 1, @b = 2', 'EXECUTE t USING @a, @b', 'EXECUTE t USING @a', 'DEALLOCATE PREPARE t', 'EXECUTE t USING @a, @b',
    "EXECUTE IMMEDIATE 'SELECT ? * 2' USING 21", "PREPARE w FROM 'INSERT INTO ps (s) VALUES (?)'", "SET @s = 'by text'", 'EXECUTE w USING @s', "SELECT s FROM ps WHERE s = 'by text'", 'DROP PREPARE w'] as $sql) {
    run($m, $sql);
}
scene($m, 'DROP TABLE ps');
