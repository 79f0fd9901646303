<?php
// What one connection is promised: it reads what it has written, however it was
// written and is read, also while every replica is late.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS sr', 'CREATE TABLE sr (id INT AUTO_INCREMENT PRIMARY KEY, s VARCHAR(50), n INT)',
    'DROP PROCEDURE IF EXISTS sr_add', 'CREATE PROCEDURE sr_add(t VARCHAR(50)) INSERT INTO sr (s) VALUES (t)');
$insert = $m->prepare('INSERT INTO sr (s) VALUES (?)');
$count = $m->prepare('SELECT COUNT(*) FROM sr WHERE s = ?');
$ways = [
    'a statement' => fn ($t) => $m->query("INSERT INTO sr (s) VALUES ('$t')"),
    'a prepared statement' => fn ($t) => $insert->execute([$t]),
    'a transaction' => function ($t) use ($m) {
        $m->begin_transaction();
        $m->query("INSERT INTO sr (s) VALUES ('$t')");
        $m->commit();
    },
    'autocommit off' => function ($t) use ($m) {
        $m->autocommit(false);
        $m->query("INSERT INTO sr (s) VALUES ('$t')");
        $m->commit();
        $m->autocommit(true);
    },
    'an implicit commit' => function ($t) use ($m) {
        $m->query('BEGIN');
        $m->query("INSERT INTO sr (s) VALUES ('$t')");
        $m->query('ALTER TABLE sr COMMENT = ""');
    },
    'several statements' => function ($t) use ($m) {
        $m->multi_query("SELECT 1; INSERT INTO sr (s) VALUES ('$t'); SELECT 2");
        do {
            $m->store_result();
        } while ($m->more_results() && $m->next_result());
    },
    'a procedure' => fn ($t) => $m->query("CALL sr_add('$t')"),
    'text PREPARE' => function ($t) use ($m) {
        $m->query("PREPARE w FROM 'INSERT INTO sr (s) VALUES (?)'");
        $m->query("SET @t = '$t'");
        $m->query('EXECUTE w USING @t');
    },
    'INSERT … RETURNING' => fn ($t) => $m->query("INSERT INTO sr (s) VALUES ('$t') RETURNING id")->free(),
    'a compound statement' => fn ($t) => $m->query("BEGIN NOT ATOMIC INSERT INTO sr (s) VALUES ('$t'); END"),
];
foreach ($ways as $how => $write) {
    for ($i = 0; $i < 3; $i++) {
        $t = "$how $i";
        $write($t);
        $seen = [(int) $m->query("SELECT COUNT(*) FROM sr WHERE s = '$t'")->fetch_column()];
        $count->execute([$t]);
        $seen[] = $count->get_result()->fetch_column();
        $m->begin_transaction(MYSQLI_TRANS_START_READ_ONLY);
        $seen[] = (int) $m->query("SELECT COUNT(*) FROM sr WHERE s = '$t'")->fetch_column();
        $m->commit();
        $r = $m->query("SELECT s FROM sr WHERE s = '$t'", MYSQLI_USE_RESULT);
        $seen[] = count($r->fetch_all());
        $r->free();
        show($t, $seen);
    }
}

title('again and again');
$missing = 0;
for ($i = 1; $i <= 200; $i++) {
    $m->query("UPDATE sr SET n = $i WHERE id = 1");
    $missing += (int) $m->query('SELECT n FROM sr WHERE id = 1')->fetch_column() === $i ? 0 : 1;
}
show('missing', $missing);

title('tables that are new, changed and gone');
run($m, 'CREATE TABLE sr_new (a INT)');
run($m, 'SELECT * FROM sr_new');
run($m, 'ALTER TABLE sr_new ADD b INT DEFAULT 2');
run($m, 'INSERT INTO sr_new (a) VALUES (1)');
run($m, 'SELECT * FROM sr_new');
run($m, 'SHOW COLUMNS FROM sr_new');
run($m, 'RENAME TABLE sr_new TO sr_newer');
run($m, 'SELECT * FROM sr_newer');
run($m, 'DROP TABLE sr_newer');
run($m, 'SELECT * FROM sr_newer');
run($m, 'SHOW TABLES LIKE "sr%"');

title('over a change of the user');
run($m, "INSERT INTO sr (s) VALUES ('before the change')");
$m->change_user(getenv('DB_USER'), getenv('DB_PASSWORD'), 'app');
run($m, "SELECT COUNT(*) FROM sr WHERE s = 'before the change'");

title('PDO');
foreach ([true, false] as $emulate) {
    $p = pdo([PDO::ATTR_EMULATE_PREPARES => $emulate]);
    $w = $p->prepare('INSERT INTO sr (s, n) VALUES (?, ?)');
    $r = $p->prepare('SELECT COUNT(*) FROM sr WHERE s = ?');
    $seen = [];
    for ($i = 1; $i <= 20; $i++) {
        $w->execute(["pdo $emulate $i", $i]);
        $r->execute(["pdo $emulate $i"]);
        $seen[] = (int) $r->fetchColumn();
    }
    show('seen', array_sum($seen));
}
scene($m, 'DROP PROCEDURE sr_add', 'DROP TABLE sr');
