<?php
// Locks between two connections.
require __DIR__ . '/lib.php';
$a = connect();
$b = connect();
scene($a, 'DROP TABLE IF EXISTS lo', 'CREATE TABLE lo (id INT PRIMARY KEY, n INT)', 'INSERT INTO lo VALUES (1, 0), (2, 0)');
scene($a, 'SET innodb_lock_wait_timeout = 1', 'SET lock_wait_timeout = 1');
scene($b, 'SET innodb_lock_wait_timeout = 1', 'SET lock_wait_timeout = 1');

title('named locks');
run($a, "SELECT GET_LOCK('l1', 0), GET_LOCK('l1', 0), GET_LOCK('l2', 0)");
run($b, "SELECT GET_LOCK('l1', 0), IS_FREE_LOCK('l1'), IS_FREE_LOCK('l3')");
show('its owner', $b->query("SELECT IS_USED_LOCK('l1') IS NOT NULL")->fetch_column());
run($b, "SELECT RELEASE_LOCK('l1'), RELEASE_LOCK('never')");
run($a, 'SELECT n FROM lo WHERE id = 1');
run($a, "SELECT RELEASE_LOCK('l1')");
run($b, "SELECT GET_LOCK('l1', 0)");
run($a, "SELECT RELEASE_LOCK('l1')");
run($b, "SELECT GET_LOCK('l1', 0)");
run($a, 'SELECT RELEASE_ALL_LOCKS()');
run($b, "SELECT GET_LOCK('l2', 0)");
$b->close();
$b = connect();
scene($b, 'SET innodb_lock_wait_timeout = 1', 'SET lock_wait_timeout = 1');
run($a, "SELECT GET_LOCK('l1', 5), GET_LOCK('l2', 5)");
run($a, 'DO RELEASE_ALL_LOCKS()');
$s = $a->prepare('SELECT GET_LOCK(?, ?)');
show('prepared', [$s->execute(['l4', 0]), $s->get_result()->fetch_row()]);
run($b, "SELECT GET_LOCK('l4', 0)");
run($a, "DO RELEASE_LOCK('l4')");
run($b, "SELECT GET_LOCK('l4', 0)");
run($b, 'SELECT RELEASE_ALL_LOCKS()');

title('rows');
run($a, 'BEGIN');
run($a, 'SELECT n FROM lo WHERE id = 1 FOR UPDATE');
run($b, 'SELECT n FROM lo WHERE id = 1 FOR UPDATE NOWAIT');
run($b, 'SELECT id FROM lo ORDER BY id FOR UPDATE SKIP LOCKED');
run($b, 'UPDATE lo SET n = 5 WHERE id = 1');
run($b, 'SELECT n FROM lo WHERE id = 1 LOCK IN SHARE MODE');
run($a, 'UPDATE lo SET n = 1 WHERE id = 1');
run($a, 'COMMIT');
run($b, 'UPDATE lo SET n = n + 1 WHERE id = 1');
run($b, 'SELECT n FROM lo WHERE id = 1');

title('a deadlock');
run($a, 'BEGIN');
run($b, 'BEGIN');
run($a, 'UPDATE lo SET n = 10 WHERE id = 1');
run($b, 'UPDATE lo SET n = 20 WHERE id = 2');
$a->query('SET innodb_lock_wait_timeout = 20');
$a->query('UPDATE lo SET n = 11 WHERE id = 2', MYSQLI_ASYNC);
for ($i = 0; $i < 200 && connect()->query("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE lo SET n = 11%'")->fetch_column() < 1; $i++) {
    usleep(50000);
}
$b->query('UPDATE lo SET n = 21 WHERE id = 1');
$a->reap_async_query();
$errors = [$a->errno, $b->errno];
sort($errors);
show('one of them', $errors);
run($a, 'ROLLBACK');
run($b, 'ROLLBACK');
run($b, 'SELECT @@in_transaction');

title('tables');
run($a, 'LOCK TABLES lo WRITE');
run($a, 'SELECT COUNT(*) FROM lo');
run($a, 'INSERT INTO lo VALUES (3, 3)');
run($a, 'SELECT * FROM information_schema.schemata WHERE 0');
run($a, 'SELECT * FROM lo AS other');
run($b, 'INSERT INTO lo VALUES (4, 4)');
run($a, 'UNLOCK TABLES');
run($b, 'INSERT INTO lo VALUES (4, 4)');
run($a, 'LOCK TABLES lo READ');
run($a, 'INSERT INTO lo VALUES (5, 5)');
run($a, 'BEGIN');
run($a, 'INSERT INTO lo VALUES (5, 5)');
run($a, 'COMMIT');
run($a, 'FLUSH TABLES lo WITH READ LOCK');
run($b, 'DELETE FROM lo WHERE id = 5');
run($a, 'UNLOCK TABLES');
scene($a, 'DROP TABLE lo');
