<?php
// Transactions in every spelling.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS tr', 'CREATE TABLE tr (id INT PRIMARY KEY, s VARCHAR(20))');

title('begin, commit, rollback');
show('begin', $m->begin_transaction());
run($m, "INSERT INTO tr VALUES (1, 'a')");
run($m, 'SELECT * FROM tr');
run($m, 'SELECT @@in_transaction');
show('rollback', $m->rollback());
run($m, 'SELECT * FROM tr');
show('begin', $m->begin_transaction(MYSQLI_TRANS_START_READ_WRITE, 'name'));
run($m, "INSERT INTO tr VALUES (1, 'a')");
show('commit', $m->commit());
run($m, 'SELECT * FROM tr');

title('chains and releases');
$m->begin_transaction();
run($m, "INSERT INTO tr VALUES (2, 'chain')");
show('commit and chain', $m->commit(MYSQLI_TRANS_COR_AND_CHAIN));
run($m, 'SELECT @@in_transaction');
run($m, "INSERT INTO tr VALUES (3, 'lost')");
show('rollback', $m->rollback());
run($m, 'SELECT @@in_transaction, COUNT(*) FROM tr');
$n = connect();
$n->begin_transaction();
scene($n, "INSERT INTO tr VALUES (4, 'release')");
show('commit and release', $n->commit(MYSQLI_TRANS_COR_RELEASE));
show('query', $n->query('SELECT 1'));
show('errno', $n->errno);

title('savepoints');
$m->begin_transaction();
run($m, "INSERT INTO tr VALUES (5, 'kept')");
show('savepoint', $m->savepoint('sp'));
run($m, "INSERT INTO tr VALUES (6, 'undone')");
run($m, 'ROLLBACK TO SAVEPOINT sp');
run($m, 'SELECT id FROM tr ORDER BY id');
show('release', $m->release_savepoint('sp'));
show('release again', $m->release_savepoint('sp'));
echo after($m), "\n";
show('commit', $m->commit());
run($m, 'SELECT id FROM tr ORDER BY id');

title('autocommit off');
show('autocommit', $m->autocommit(false));
run($m, 'SELECT @@autocommit, @@in_transaction');
run($m, 'SELECT COUNT(*) FROM tr');
run($m, 'SELECT @@in_transaction');
run($m, "INSERT INTO tr VALUES (7, 'auto')");
run($m, 'SELECT COUNT(*) FROM tr');
show('rollback', $m->rollback());
run($m, 'SELECT COUNT(*) FROM tr');
run($m, "INSERT INTO tr VALUES (8, 'auto')");
show('autocommit', $m->autocommit(true));
run($m, 'SELECT @@autocommit, @@in_transaction, COUNT(*) FROM tr');
run($m, 'SET autocommit = 0');
run($m, 'DELETE FROM tr WHERE id = 8');
run($m, 'SET autocommit = 1');
run($m, 'SELECT COUNT(*) FROM tr');

title('read only');
show('begin', $m->begin_transaction(MYSQLI_TRANS_START_READ_ONLY));
run($m, 'SELECT COUNT(*) FROM tr');
run($m, "INSERT INTO tr VALUES (9, 'no')");
run($m, 'SELECT COUNT(*) FROM tr');
show('commit', $m->commit());
show('snapshot', $m->begin_transaction(MYSQLI_TRANS_START_WITH_CONSISTENT_SNAPSHOT));
run($m, 'SELECT COUNT(*) FROM tr');
show('commit', $m->commit());
run($m, 'START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT');
run($m, 'SELECT COUNT(*) FROM tr');
run($m, 'COMMIT');
run($m, 'SET SESSION TRANSACTION READ ONLY');
run($m, "INSERT INTO tr VALUES (9, 'no')");
run($m, 'BEGIN');
run($m, 'SELECT COUNT(*) FROM tr');
run($m, "DELETE FROM tr");
run($m, 'ROLLBACK');
run($m, 'SET SESSION TRANSACTION READ WRITE');
run($m, 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE');
run($m, 'BEGIN');
run($m, 'SELECT COUNT(*) FROM tr');
run($m, 'COMMIT');
run($m, 'SET TRANSACTION READ ONLY');
run($m, "INSERT INTO tr VALUES (9, 'no')");
run($m, 'SELECT 1');
run($m, "INSERT INTO tr VALUES (9, 'yes')");

title('what ends a read-only transaction');
// Each on a connection that has written nothing, so that a replica may serve it.
foreach (['BEGIN', 'START TRANSACTION READ WRITE', 'CREATE TABLE tr_ddl (n INT)', 'DROP TABLE tr_ddl', 'SET autocommit = 1', 'LOCK TABLES tr WRITE', 'COMMIT', 'ROLLBACK', 'START TRANSACTION READ ONLY', 'COMMIT AND CHAIN', 'SET autocommit = 0',
    'SAVEPOINT s', 'SET @a = 1', 'USE information_schema', 'DO 1', 'DELETE FROM app.tr', 'SELECT nonsense'] as $n => $sql) {
    foreach ([false, true] as $prepared) {
        $o = connect();
        show('begin', $o->begin_transaction(MYSQLI_TRANS_START_READ_ONLY));
        run($o, 'SELECT COUNT(*) FROM seq_1_to_3');
        if ($prepared) {
            $s = $o->prepare($sql);
            show("prepared $sql", $s ? [$s->execute(), $s->errno, $s->error] : $o->error);
            if ($s) {
                $s->close();
            }
        } else {
            run($o, $sql);
        }
        run($o, 'SELECT @@in_transaction, @@autocommit, COUNT(*) FROM seq_1_to_3');
        run($o, "INSERT INTO app.tr VALUES (300 + $n, 'x')");
        run($o, 'SELECT @@in_transaction, COUNT(*) FROM seq_1_to_3');
        run($o, 'ROLLBACK');
        run($o, 'DELETE FROM app.tr WHERE id >= 300');
        run($o, 'DROP TABLE IF EXISTS app.tr_ddl');
        $o->close();
    }
}

title('implicit commits');
$m->begin_transaction();
run($m, "INSERT INTO tr VALUES (10, 'implicit')");
run($m, 'CREATE TABLE IF NOT EXISTS tr_other (n INT)');
run($m, 'SELECT @@in_transaction');
run($m, 'ROLLBACK');
run($m, 'SELECT COUNT(*) FROM tr WHERE id = 10');
run($m, 'BEGIN');
run($m, "INSERT INTO tr VALUES (11, 'implicit')");
run($m, 'BEGIN');
run($m, 'ROLLBACK');
run($m, 'SELECT COUNT(*) FROM tr WHERE id = 11');
run($m, 'BEGIN');
run($m, "INSERT INTO tr VALUES (12, 'implicit')");
run($m, 'DROP TABLE tr_other');
run($m, 'ROLLBACK');
run($m, 'BEGIN');
run($m, 'CREATE TEMPORARY TABLE tr_temp (n INT)');
run($m, 'SELECT @@in_transaction');
run($m, 'ROLLBACK');
run($m, 'DROP TEMPORARY TABLE tr_temp');

title('errors inside');
$m->begin_transaction();
run($m, "INSERT INTO tr VALUES (20, 'before')");
run($m, "INSERT INTO tr VALUES (1, 'duplicate')");
run($m, 'SELECT nonsense');
run($m, 'SELECT @@in_transaction, COUNT(*) FROM tr WHERE id = 20');
show('commit', $m->commit());
run($m, 'SELECT COUNT(*) FROM tr WHERE id = 20');

title('XA');
run($m, "XA START 'x1'");
run($m, "INSERT INTO tr VALUES (30, 'xa')");
run($m, 'SELECT COUNT(*) FROM tr');
run($m, 'COMMIT');
run($m, "XA END 'x1'");
run($m, "XA PREPARE 'x1'");
run($m, "XA COMMIT 'x1'");
run($m, 'SELECT s FROM tr WHERE id = 30');
run($m, "XA START 'x2'");
run($m, "DELETE FROM tr");
run($m, "XA END 'x2'");
run($m, "XA ROLLBACK 'x2'");
run($m, 'SELECT COUNT(*) FROM tr');

title('completion_type');
run($m, 'SET completion_type = CHAIN');
run($m, 'BEGIN');
run($m, 'COMMIT');
run($m, 'SELECT @@in_transaction');
run($m, 'SET completion_type = NO_CHAIN');
run($m, 'ROLLBACK');
run($m, 'SELECT @@in_transaction');
scene($m, 'DROP TABLE tr');
