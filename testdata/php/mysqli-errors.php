<?php
// Errors: their numbers, states and texts, and that the session goes on.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS er_child', 'DROP TABLE IF EXISTS er', 'CREATE TABLE er (id INT PRIMARY KEY, s VARCHAR(5) NOT NULL, n INT CHECK (n > 0), UNIQUE (s)) ENGINE=InnoDB', "INSERT INTO er VALUES (1, 'a', 1)",
    'CREATE TABLE er_child (id INT, FOREIGN KEY (id) REFERENCES er (id))', 'INSERT INTO er_child VALUES (1)');

title('refused statements');
foreach ([';', 'SELECT', 'nonsense', "SELECT 'open", 'SELECT `open', 'SELECT /* open', 'SELECT * FROM nope', 'SELECT nope FROM er', 'SELECT * FROM nope.nope', 'SELECT id, COUNT(*) FROM er GROUP BY nope', 'SELECT nope()', 'SELECT COUNT(1, 2)',
    "INSERT INTO er VALUES (1, 'b', 1)", "INSERT INTO er VALUES (2, 'a', 1)", 'INSERT INTO er VALUES (2, NULL, 1)', "INSERT INTO er VALUES (2, 'too long', 1)", "INSERT INTO er VALUES (2, 'b', 0)", "INSERT INTO er VALUES (2, 'b')", "INSERT INTO er VALUES ('x', 'b', 1)",
    'INSERT INTO er_child VALUES (99)', 'DELETE FROM er WHERE id = 1', 'DROP TABLE er', 'DROP TABLE nope', 'CREATE TABLE er (id INT)', 'ALTER TABLE er ADD COLUMN id INT', 'CREATE TABLE bad (id INT, id INT)', 'SELECT (SELECT 1 UNION SELECT 2)', 'SELECT 1, 2 UNION SELECT 3',
    'SELECT 9223372036854775807 + 1', "SELECT CAST('x' AS DATE)", 'SELECT EXP(9999)', 'SELECT ST_GeomFromText("nope")', 'SELECT JSON_EXTRACT("{", "$")', 'SELECT UNCOMPRESS("x")', 'KILL 0', 'KILL 99999999', 'KILL QUERY 99999999', 'SHOW CREATE TABLE nope', 'SHOW NONSENSE', 'EXPLAIN nonsense',
    'DESCRIBE nope', 'CALL nope()', 'DROP PROCEDURE nope', 'DROP VIEW nope', 'SET @@nope = 1', 'SET GLOBAL max_connections = 1', 'CREATE DATABASE not_allowed', 'SELECT * FROM mysql.user', 'SHUTDOWN', 'SHOW MASTER STATUS', 'CHANGE MASTER TO MASTER_HOST = "x"', 'GRANT ALL ON *.* TO app',
    'SAVEPOINT', 'ROLLBACK TO SAVEPOINT nope', 'EXECUTE nope', 'LOCK TABLES nope READ', 'UNLOCK TABLES', 'XA COMMIT "nope"', 'SIGNAL SQLSTATE "45000" SET MESSAGE_TEXT = "own words"', 'SELECT * FROM er PROCEDURE nope()', 'HANDLER nope OPEN', "LOAD DATA INFILE '/nope' INTO TABLE er",
    "SELECT LOAD_FILE('/nope')", "SELECT 1 INTO OUTFILE '/nope/nope'", 'SELECT SLEEP(0)', 'SELECT BENCHMARK(10, 1)', 'SELECT "žluťoučký" FROM nope', 'DELETE FROM er_child LIMIT -1', 'SELECT * FROM er LIMIT 1 OFFSET', 'INSTALL SONAME "nope"', 'SELECT * FROM er FOR UPDATE NOWAIT', 'TABLE nope'] as $sql) {
    run($m, $sql);
}

title('lists of errors');
$m->query('SELECT * FROM nope');
show('error_list', $m->error_list);
$m->query('SELECT 1');
show('error_list', $m->error_list);
$s = $m->stmt_init();
show('prepare', $s->prepare('SELECT * FROM nope'));
show('stmt error_list', $s->error_list);

title('exceptions');
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
attempt('query', fn () => $m->query('SELECT * FROM nope'));
attempt('prepare', fn () => $m->prepare('SELECT nope FROM er'));
attempt('execute', fn () => $m->prepare('INSERT INTO er VALUES (?, ?, ?)')->execute([1, 'a', 1]));
attempt('begin in a name', fn () => $m->begin_transaction(0, 'bad name'));
attempt('multi', fn () => $m->multi_query('nonsense; SELECT 1'));
mysqli_report(MYSQLI_REPORT_OFF);

title('a statement of no end');
run($m, 'SET max_statement_time = 0.2');
run($m, 'SELECT COUNT(*) FROM information_schema.columns a, information_schema.columns b, information_schema.columns c WHERE a.column_name < b.column_name');
run($m, 'SET max_statement_time = 0');
run($m, "SELECT 'still here'");
scene($m, 'DROP TABLE er_child', 'DROP TABLE er');
