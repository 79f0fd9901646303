<?php
// Several statements in one text, and what each leaves.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS mu', 'CREATE TABLE mu (id INT AUTO_INCREMENT PRIMARY KEY, s VARCHAR(20))');

function multi(mysqli $m, string $sql): void
{
    echo "> $sql\n";
    $ok = $m->multi_query($sql);
    for (;;) {
        echo '  ', after($m), "\n";
        if (!$ok) {
            break;
        }
        if ($r = $m->store_result()) {
            show('  rows', $r->fetch_all());
            $r->free();
        }
        if (!$m->more_results()) {
            break;
        }
        $ok = $m->next_result();
    }
}

title('results in order');
multi($m, 'SELECT 1; SELECT 2, 3; SELECT 4');
multi($m, "INSERT INTO mu (s) VALUES ('a'), ('b'); SELECT LAST_INSERT_ID(), ROW_COUNT(); SELECT * FROM mu; UPDATE mu SET s = 'c'; SELECT ROW_COUNT()");
multi($m, 'SELECT SQL_CALC_FOUND_ROWS s FROM mu LIMIT 1; SELECT FOUND_ROWS()');
multi($m, "SELECT 'semicolon ; in a string'; SELECT `s` FROM mu -- comment ; here\n; SELECT /* ; */ 5");

title('an error in the middle');
multi($m, "SELECT 1; SELECT * FROM nowhere; INSERT INTO mu (s) VALUES ('not run')");
run($m, 'SELECT COUNT(*) FROM mu');
multi($m, 'SELECT 1; SELEC 2; SELECT 3');
multi($m, "INSERT INTO mu (id, s) VALUES (1, 'x'); SELECT 1");

title('state that it leaves');
multi($m, 'SET @x = 5; SET @y := @x + 1; SELECT @x, @y');
run($m, 'SELECT @x, @y');
multi($m, "BEGIN; INSERT INTO mu (s) VALUES ('in it')");
run($m, 'SELECT COUNT(*) FROM mu');
multi($m, 'SELECT COUNT(*) FROM mu; ROLLBACK; SELECT COUNT(*) FROM mu');
multi($m, 'CREATE TEMPORARY TABLE mut (n INT); INSERT INTO mut VALUES (1), (2)');
run($m, 'SELECT * FROM mut');
multi($m, 'DROP TEMPORARY TABLE mut; SELECT 1');
run($m, 'SELECT * FROM mut');
multi($m, "SET NAMES latin1; SET SESSION sql_mode = 'ANSI_QUOTES'");
run($m, 'SELECT @@character_set_client, @@sql_mode');
run($m, "SELECT \"s\" FROM mu ORDER BY id LIMIT 1");
multi($m, "USE information_schema; SELECT DATABASE()");
run($m, 'SELECT DATABASE()');
multi($m, 'USE app; SELECT DATABASE()');
multi($m, 'SET autocommit = 0; INSERT INTO app.mu (s) VALUES ("open")');
run($m, 'SELECT @@autocommit, @@in_transaction');
multi($m, 'ROLLBACK; SET autocommit = 1; SELECT COUNT(*) FROM app.mu');

title('without the permission for several');
run($m, 'SELECT 1; SELECT 2');
run($m, 'SELECT 1;');

title('results that nobody takes');
show('multi_query', $m->multi_query('SELECT 1; SELECT 2'));
show('query', $m->query('SELECT 3'));
echo after($m), "\n";
while ($m->more_results()) {
    $m->next_result();
    if ($r = $m->store_result()) {
        show('row', $r->fetch_row());
    }
}

title('many');
$ok = $m->multi_query(implode(';', array_map(fn ($i) => "SELECT $i", range(1, 500))));
$sum = 0;
do {
    $sum += (int) $m->store_result()->fetch_column();
} while ($m->more_results() && $m->next_result());
show('sum', $sum);

title('a write and what is read after it');
multi($m, "INSERT INTO app.mu (s) VALUES ('last'); SELECT 1");
run($m, 'SELECT s FROM app.mu ORDER BY id DESC LIMIT 1');
scene($m, 'DROP TABLE app.mu');
