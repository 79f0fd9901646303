<?php
// The state of a session: variables, schema, temporary tables, what the last
// statement left.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS se', 'CREATE TABLE se (id INT AUTO_INCREMENT PRIMARY KEY, s VARCHAR(20), n TINYINT)');

title('what the last statement left');
foreach (["INSERT INTO se (s) VALUES ('a'), ('b'), ('c')", 'SELECT LAST_INSERT_ID()', 'SELECT LAST_INSERT_ID() AS id FROM DUAL', 'SELECT @@last_insert_id, @@identity', 'SELECT ROW_COUNT()',
    'UPDATE se SET s = "x" WHERE id < 3', 'SELECT ROW_COUNT()', 'SELECT SQL_CALC_FOUND_ROWS s FROM se LIMIT 1', 'SELECT FOUND_ROWS()', 'SELECT s FROM se', 'SELECT FOUND_ROWS()',
    'SELECT LAST_INSERT_ID(77)', 'SELECT LAST_INSERT_ID()', 'UPDATE se SET id = LAST_INSERT_ID(id + 100) WHERE id = 3', 'SELECT LAST_INSERT_ID()', 'SELECT id FROM se WHERE id = LAST_INSERT_ID()',
    "INSERT INTO se (n) VALUES (1000)", 'SHOW ERRORS', "SET sql_mode = ''", 'INSERT INTO se (s, n) VALUES (REPEAT("z", 30), 1000)', 'SHOW COUNT(*) WARNINGS', 'SELECT 1 / 0', 'SELECT @@warning_count, @@error_count',
    'SELECT 1 / 0', 'SHOW WARNINGS LIMIT 1', 'SELECT 1', 'SHOW WARNINGS', 'DROP TABLE IF EXISTS not_there', 'SELECT CAST("12abc" AS INT)', 'GET DIAGNOSTICS @n = NUMBER', 'SELECT @n'] as $sql) {
    run($m, $sql);
}

title('user variables');
foreach (['SET @a = 1, @b := "two", @c = NULL, @d = 1.25, @e = X"00ff"', 'SELECT @a, @b, @c, @d, @e, @never', 'SELECT @a := @a + 1', 'SELECT @a', 'SELECT s INTO @s FROM se ORDER BY id LIMIT 1', 'SELECT @s',
    'SET @row = 0', 'SELECT @row := @row + 1 AS r, id FROM se ORDER BY id', 'SELECT @row', 'UPDATE se SET n = (@last := 5)', 'SELECT @last', 'SET @`odd name` = 3', 'SELECT @`odd name`, @A'] as $sql) {
    run($m, $sql);
}

title('system variables');
foreach (["SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'", 'SELECT "id" || 1 FROM se ORDER BY 1 LIMIT 1', 'SELECT @@sql_mode', 'SET sql_mode = DEFAULT', 'SELECT @@sql_mode',
    "SET time_zone = '+03:00'", "SELECT @@time_zone, FROM_UNIXTIME(0)", "SET @@session.time_zone = '-05:30'", 'SELECT FROM_UNIXTIME(0)', 'SET time_zone = SYSTEM', 'SELECT @@time_zone',
    'SET group_concat_max_len = 4', 'SELECT GROUP_CONCAT(id) FROM se', 'SET SESSION group_concat_max_len = DEFAULT', 'SET sql_select_limit = 1', 'SELECT id FROM se', 'SET sql_select_limit = DEFAULT', 'SELECT COUNT(id) FROM se',
    'SET div_precision_increment = 8', 'SELECT 1 / 3', "SET lc_time_names = 'de_DE'", "SELECT DAYNAME('2024-01-01')", 'SET timestamp = 1000000000', 'SELECT UNIX_TIMESTAMP(), UNIX_TIMESTAMP(NOW())', 'SET timestamp = DEFAULT',
    'SET rand_seed1 = 5, rand_seed2 = 7', 'SET insert_id = 500', 'INSERT INTO se (s) VALUES ("chosen")', 'SELECT LAST_INSERT_ID()', 'SET foreign_key_checks = 0', 'SELECT @@foreign_key_checks', 'SET foreign_key_checks = 1',
    'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED', 'SELECT @@tx_isolation', 'SET tx_isolation = "REPEATABLE-READ"', 'SET no_such_variable = 1', 'SET SESSION max_connections = 5', 'SET sql_mode = "nonsense"', 'SELECT @@no_such',
    'SET @@collation_connection = utf8mb4_bin', "SELECT 'a' = 'A', @@collation_connection", 'SET STATEMENT group_concat_max_len = 5 FOR SELECT GROUP_CONCAT(id) FROM se', 'SELECT @@group_concat_max_len',
    'SHOW VARIABLES LIKE "sql_mode"', 'SHOW SESSION VARIABLES WHERE variable_name = "time_zone"', 'SET GLOBAL wait_timeout = 5', 'SET wait_timeout = 1000', 'SELECT @@wait_timeout',
    'SET sql_big_selects = 0, max_join_size = 1', 'SELECT COUNT(*) FROM se a, se b', 'SET sql_big_selects = 1, max_join_size = DEFAULT'] as $sql) {
    run($m, $sql);
}

title('schema');
foreach (['SELECT DATABASE(), SCHEMA()', 'USE information_schema', 'SELECT DATABASE()', 'SELECT COUNT(*) FROM se', 'USE no_such_schema', 'SELECT DATABASE()', 'USE app', 'SELECT COUNT(*) FROM se'] as $sql) {
    run($m, $sql);
}
show('select_db', $m->select_db('information_schema'));
run($m, 'SELECT DATABASE()');
show('select_db', $m->select_db('no_such'));
echo after($m), "\n";
$m->select_db('app');
scene($m, 'DROP DATABASE IF EXISTS app_gone', 'CREATE DATABASE app_gone', 'USE app_gone', 'DROP DATABASE app_gone');
run($m, 'SELECT DATABASE()');
run($m, 'SELECT COUNT(*) FROM se');
$m->select_db('app');

title('temporary tables');
foreach (['CREATE TEMPORARY TABLE tt (id INT AUTO_INCREMENT PRIMARY KEY, n INT)', 'INSERT INTO tt (n) VALUES (1), (2)', 'SELECT * FROM tt', 'SELECT s, n FROM se JOIN tt USING (n)', 'CREATE TEMPORARY TABLE se (shadow INT)', 'SELECT * FROM se', 'INSERT INTO se VALUES (8)',
    'SELECT shadow FROM se', 'DROP TEMPORARY TABLE se', 'SELECT COUNT(*) FROM se', 'ALTER TABLE tt ADD z INT DEFAULT 4', 'SELECT * FROM tt', 'CREATE TEMPORARY TABLE tt2 LIKE tt', 'ALTER TABLE tt RENAME TO tt3', 'SELECT COUNT(*) FROM tt3', 'SELECT COUNT(*) FROM tt', 'SHOW CREATE TABLE tt3',
    'TRUNCATE tt3', 'SELECT COUNT(*) FROM tt3', 'DROP TABLE tt3, tt2', 'SELECT * FROM tt2', 'CREATE OR REPLACE TEMPORARY TABLE tt4 AS SELECT 1 AS one', 'SELECT * FROM app.tt4', 'DROP TABLE IF EXISTS tt4', 'SELECT COUNT(*) FROM se'] as $sql) {
    run($m, $sql);
}

title('who am I');
run($m, 'SELECT USER()');
run($m, 'SELECT CURRENT_USER(), SESSION_USER() = USER(), SYSTEM_USER() = USER()');
run($m, 'SELECT VERSION() = @@version, @@version');
run($m, 'SHOW GRANTS');
run($m, 'SELECT CURRENT_ROLE()');
run($m, 'SET ROLE NONE');
run($m, 'SHOW SESSION STATUS LIKE "Last_query_cost"');
scene($m, 'DROP TABLE se');
