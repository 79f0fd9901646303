<?php
// Stored procedures and functions: result sets, OUT parameters, state.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS pr', 'CREATE TABLE pr (id INT AUTO_INCREMENT PRIMARY KEY, s VARCHAR(20))');
foreach (['two_results', 'out_parameter', 'writes', 'fails', 'leaves', 'nothing', 'in_transaction'] as $name) {
    scene($m, "DROP PROCEDURE IF EXISTS $name");
}
scene($m, 'DROP FUNCTION IF EXISTS twice', 'DROP FUNCTION IF EXISTS adds',
    'CREATE PROCEDURE two_results(n INT) BEGIN SELECT n; SELECT id, s FROM pr ORDER BY id; END',
    'CREATE PROCEDURE out_parameter(IN a INT, OUT b INT, INOUT c INT) BEGIN SET b = a * 2; SET c = c + a; SELECT "inside"; END',
    'CREATE PROCEDURE writes(t VARCHAR(20)) BEGIN INSERT INTO pr (s) VALUES (t); INSERT INTO pr (s) VALUES (CONCAT(t, 2)); END',
    'CREATE PROCEDURE fails() BEGIN SELECT 1; SIGNAL SQLSTATE "45000" SET MYSQL_ERRNO = 31001, MESSAGE_TEXT = "by design"; END',
    'CREATE PROCEDURE leaves() BEGIN SET @left = 9; CREATE TEMPORARY TABLE left_behind AS SELECT 3 AS n; SET SESSION sort_buffer_size = 262144; END',
    'CREATE PROCEDURE nothing() BEGIN END',
    'CREATE PROCEDURE in_transaction() BEGIN START TRANSACTION; INSERT INTO pr (s) VALUES ("open"); END',
    'CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC NO SQL RETURN n * 2',
    'CREATE FUNCTION adds(t VARCHAR(20)) RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO pr (s) VALUES (t); RETURN LAST_INSERT_ID(); END');

function call(mysqli $m, string $sql): void
{
    echo "> $sql\n";
    $ok = $m->multi_query($sql);
    for (;;) {
        echo '  ', after($m), "\n";
        if (!$ok) {
            return;
        }
        if ($r = $m->store_result()) {
            show('  rows', $r->fetch_all());
        }
        if (!$m->more_results()) {
            return;
        }
        $ok = $m->next_result();
    }
}

title('calls');
call($m, 'CALL writes("a")');
call($m, 'CALL two_results(5)');
call($m, 'CALL nothing()');
call($m, 'CALL fails()');
call($m, 'CALL no_such()');
call($m, 'CALL writes()');
call($m, 'SET @c = 10');
call($m, 'CALL out_parameter(4, @b, @c)');
run($m, 'SELECT @b, @c');
run($m, 'SELECT LAST_INSERT_ID(), s FROM pr ORDER BY id DESC LIMIT 1');

title('functions');
run($m, 'SELECT twice(21)');
run($m, 'SELECT adds("by function")');
run($m, 'SELECT s FROM pr WHERE s = "by function"');
run($m, 'SELECT twice(id) FROM pr ORDER BY id');
run($m, 'SELECT adds("prepared") + 0');
$s = $m->prepare('SELECT adds(?) > 0');
show('execute', [$s->execute(['prepared function']), $s->get_result()->fetch_all()]);
run($m, 'SELECT COUNT(*) FROM pr');

title('state that a procedure leaves');
call($m, 'CALL leaves()');
run($m, 'SELECT @left, n, @@sort_buffer_size FROM left_behind');
run($m, 'DROP TEMPORARY TABLE left_behind');
call($m, 'CALL in_transaction()');
run($m, 'SELECT @@in_transaction, COUNT(*) FROM pr');
run($m, 'ROLLBACK');
run($m, 'SELECT @@in_transaction, COUNT(*) FROM pr');

title('prepared calls');
$s = $m->prepare('CALL two_results(?)');
for ($i = 1; $i <= 2; $i++) {
    show('execute', $s->execute([$i]));
    do {
        if ($r = $s->get_result()) {
            show('  rows', $r->fetch_all());
        }
        $more = $s->more_results();
        if ($more) {
            $s->next_result();
        }
    } while ($more);
}
$s->close();
$s = $m->prepare('CALL out_parameter(?, ?, ?)');
if ($s) {
    show('execute', $s->execute([4, 0, 1]));
    do {
        if ($r = $s->get_result()) {
            show('  rows', $r->fetch_all());
        }
        $more = $s->more_results();
        if ($more) {
            $s->next_result();
        }
    } while ($more);
    $s->close();
}
run($m, 'SELECT 1');

title('compound statements');
call($m, 'BEGIN NOT ATOMIC DECLARE x INT DEFAULT 3; INSERT INTO pr (s) VALUES ("compound"); SELECT x; END');
run($m, 'SELECT COUNT(*) FROM pr WHERE s = "compound"');

title('triggers and views');
scene($m, 'DROP TABLE IF EXISTS pr_log', 'DROP VIEW IF EXISTS pr_view', 'CREATE TABLE pr_log (n INT)', 'CREATE TRIGGER pr_t AFTER INSERT ON pr FOR EACH ROW INSERT INTO pr_log VALUES (NEW.id)', 'CREATE VIEW pr_view AS SELECT s, twice(id) AS t FROM pr');
run($m, 'INSERT INTO pr (s) VALUES ("triggered")');
run($m, 'SELECT COUNT(*) FROM pr_log');
run($m, 'SELECT s, t > 0 FROM pr_view ORDER BY t DESC LIMIT 1');
scene($m, 'DROP VIEW pr_view', 'DROP TABLE pr_log', 'DROP TABLE pr');
