<?php
// Queries in the text protocol: types, fetching, affected rows, ids, info.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS q1', 'DROP TABLE IF EXISTS q2');

title('writes');
run($m, 'CREATE TABLE q1 (id INT AUTO_INCREMENT PRIMARY KEY, s VARCHAR(20), n DECIMAL(8,3), d DATETIME NULL, UNIQUE (s)) CHARACTER SET utf8mb4');
run($m, "INSERT INTO q1 (s, n) VALUES ('one', 1.5)");
run($m, "INSERT INTO q1 (s, n, d) VALUES ('two', 2, '2001-02-03 04:05:06'), ('three', NULL, NULL), ('four', -4.125, NULL)");
run($m, "INSERT IGNORE INTO q1 (s) VALUES ('one'), ('five')");
run($m, "INSERT INTO q1 (s, n) VALUES ('two', 9) ON DUPLICATE KEY UPDATE n = n + 1");
run($m, "REPLACE INTO q1 (id, s) VALUES (1, 'uno')");
run($m, "UPDATE q1 SET n = n WHERE id < 3");
run($m, "UPDATE q1 SET n = 7 WHERE id < 3");
run($m, "DELETE FROM q1 WHERE id = 4");
run($m, "INSERT INTO q1 (s) VALUES ('six') RETURNING id, s");
run($m, 'CREATE TABLE q2 AS SELECT * FROM q1');
run($m, 'INSERT INTO q2 SELECT * FROM q1 WHERE id > 1');
run($m, 'TRUNCATE TABLE q2');

title('reads');
run($m, 'SELECT * FROM q1 ORDER BY id');
run($m, 'SELECT COUNT(*), SUM(n), MAX(s), AVG(n) FROM q1');
run($m, "SELECT 1, -1, 1.50, 1e10, 'x', NULL, TRUE, 18446744073709551615, X'00ff', DATE '2020-02-29', TIME '25:00:00.5'");
run($m, 'SELECT * FROM q1 WHERE 0');
run($m, '(SELECT 1) UNION (SELECT 2) ORDER BY 1 DESC');
run($m, 'WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c WHERE n < 5) SELECT GROUP_CONCAT(n) FROM c');
run($m, 'VALUES (1, 2), (3, 4)');
run($m, '/* a comment */ SELECT /*! 5 */ AS five; ');
run($m, "  \n SELECT 'spaces'");
run($m, 'SELECT s FROM q1 WHERE id = 1 FOR UPDATE');
run($m, 'SELECT s INTO @kept FROM q1 WHERE id = 1');
run($m, 'SELECT @kept');
run($m, 'EXPLAIN SELECT s FROM q1 WHERE id = 1');
run($m, 'DESCRIBE q1');
run($m, 'SHOW TABLES LIKE "q_"');
run($m, 'SHOW CREATE TABLE q1');
run($m, 'SHOW COLUMNS FROM q1');
run($m, 'CHECK TABLE q1');
run($m, 'ANALYZE TABLE q1');
run($m, 'DO 1');
run($m, 'SELECT table_name, table_rows >= 0 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE "q_" ORDER BY 1');

title('ways to fetch');
$r = $m->query('SELECT id, s FROM q1 ORDER BY id');
show('num_rows', $r->num_rows);
show('assoc', $r->fetch_assoc());
show('both', $r->fetch_array());
show('object', $r->fetch_object());
show('lengths', $r->lengths);
show('seek', $r->data_seek(0));
show('row', $r->fetch_row());
show('column', $r->fetch_column(1));
$r->data_seek(0);
show('all', $r->fetch_all(MYSQLI_ASSOC));
show('end', $r->fetch_row());
foreach ($m->query('SELECT s FROM q1 ORDER BY id') as $row) {
    show('each', $row);
}
$m->options(MYSQLI_OPT_INT_AND_FLOAT_NATIVE, 1);

title('native numbers');
$n = connect(before: fn ($m) => $m->options(MYSQLI_OPT_INT_AND_FLOAT_NATIVE, 1));
run($n, 'SELECT 1, 1.5, 1.5e0, CAST(2 AS UNSIGNED), 18446744073709551615');

title('execute_query');
show('rows', $m->execute_query('SELECT s FROM q1 WHERE id > ? ORDER BY id', [1])->fetch_all());

title('real_query');
show('real_query', $m->real_query('SELECT 42'));
show('field_count', $m->field_count);
show('store', $m->store_result()->fetch_row());
show('real_query', $m->real_query('UPDATE q1 SET n = 1'));
show('store', $m->store_result());
echo after($m), "\n";
scene($m, 'DROP TABLE q1', 'DROP TABLE q2');
