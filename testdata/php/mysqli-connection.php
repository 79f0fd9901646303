<?php
// The connection itself: what it says of itself, change_user, ping, kill, flags.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS co', 'CREATE TABLE co (id INT PRIMARY KEY, s VARCHAR(10))', "INSERT INTO co VALUES (1, 'a')");

title('what it says of itself');
show('server_info', $m->server_info);
show('server_version', $m->server_version);
show('protocol_version', $m->protocol_version);
show('by socket', str_contains($m->host_info, 'UNIX socket'));
show('character_set_name', $m->character_set_name());
show('get_charset', $m->get_charset());
show('thread_id is a number', $m->thread_id > 0);
show('thread_id is the server\'s', $m->thread_id === (int) $m->query('SELECT CONNECTION_ID()')->fetch_column());
show('thread_id', $m->thread_id);
run($m, 'SELECT CONNECTION_ID()');
show('stat has its parts', preg_match('/^Uptime: \d+  Threads: \d+  Questions: \d+  Slow queries: \d+  Opens: \d+/', $m->stat()));
show('ping', $m->ping());
show('dump_debug_info', [$m->dump_debug_info(), $m->error]);
show('refresh', [$m->refresh(MYSQLI_REFRESH_TABLES), $m->error]);
show('sqlstate', $m->sqlstate);
show('get_warnings', $m->get_warnings());
show('connection stats', count($m->get_connection_stats()) > 10);

title('change_user');
run($m, 'SET @x = 1, NAMES latin1, sql_mode = ""');
run($m, 'CREATE TEMPORARY TABLE cot (n INT)');
scene($m, 'BEGIN', "INSERT INTO co VALUES (2, 'lost')");
run($m, 'SELECT GET_LOCK("co", 0)');
$s = $m->prepare('SELECT 1');
$before = $m->thread_id;
show('change_user', $m->change_user(getenv('DB_USER'), getenv('DB_PASSWORD'), 'app'));
show('same thread', $before === $m->thread_id);
show('character set', $m->character_set_name());
run($m, 'SELECT @x, @@sql_mode <> "", @@in_transaction, IS_FREE_LOCK("co"), DATABASE(), @@character_set_client');
run($m, 'SELECT COUNT(*) FROM co');
run($m, 'SELECT * FROM cot');
show('an old statement', $s->execute());
show('error', [$s->errno, $s->error]);
show('to no schema', $m->change_user(getenv('DB_USER'), getenv('DB_PASSWORD'), null));
run($m, 'SELECT DATABASE()');
run($m, 'SELECT * FROM co');
show('wrong password', $m->change_user(getenv('DB_USER'), 'wrong', 'app'));
show('errno', $m->errno);
$n = connect();
show('to another schema', $n->change_user(getenv('DB_USER'), getenv('DB_PASSWORD'), 'information_schema'));
run($n, 'SELECT DATABASE()');
show('to a schema that is not there', $n->change_user(getenv('DB_USER'), getenv('DB_PASSWORD'), 'nope'));
echo $n->errno, ' ', $n->error, "\n";

title('another user');
$m = connect();
scene($m, "DROP USER IF EXISTS 'app_other'@'%'", "CREATE USER 'app_other'@'%' IDENTIFIED BY 'secret2'");
$m->close();
$n = connect(user: 'app_other', password: 'secret2', schema: '');
run($n, 'SELECT CURRENT_USER()');
run($n, 'SELECT * FROM app.co');
show('change_user', $n->change_user(getenv('DB_USER'), getenv('DB_PASSWORD'), 'app'));
run($n, 'SELECT CURRENT_USER(), COUNT(*) FROM co LOCK IN SHARE MODE');
scene($n, "DROP USER 'app_other'@'%'");
$n->close();

title('not let in');
connect(user: 'nobody', password: 'x');
connect(password: 'wrong');
connect(password: '');
connect(schema: 'no_such_schema');
connect(user: str_repeat('u', 100));

title('kill');
$m = connect();
$n = connect();
run($m, "KILL {$n->thread_id}");
show('the other', $n->query('SELECT 1'));
show('errno', $n->errno);
$n = connect();
show('kill()', $m->kill($n->thread_id));
show('ping of the dead', @$n->ping());
$n = connect();
show('send', $n->query('SELECT SLEEP(20)', MYSQLI_ASYNC));
$read = $error = $reject = [$n];
for ($i = 0; $i < 200 && $m->query("SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(20)'")->fetch_column() < 1; $i++) {
    usleep(50000);
}
run($m, "KILL QUERY {$n->thread_id}");
$r = $n->reap_async_query();
show('killed query', $r === false ? [$n->errno, $n->sqlstate, $n->error] : $r->fetch_row());
run($n, 'SELECT 2');
show('kill oneself', $m->query("KILL {$m->thread_id}"));
show('errno', [$m->errno, $m->sqlstate]);
show('after', $m->query('SELECT 1'));

title('flags of the connection');
$f = connect(MYSQLI_CLIENT_FOUND_ROWS);
run($f, "UPDATE co SET s = 'a' WHERE id = 1");
run($f, "INSERT INTO co VALUES (1, 'a') ON DUPLICATE KEY UPDATE s = 'a'");
$f = connect();
run($f, "UPDATE co SET s = 'a' WHERE id = 1");
$f = connect(MYSQLI_CLIENT_IGNORE_SPACE);
run($f, 'SELECT COUNT (*) FROM seq_1_to_3');
scene($f, 'SET wait_timeout = 77');
for ($i = 0; $i < 3; $i++) { // again on what another has used
    $f = connect(MYSQLI_CLIENT_INTERACTIVE);
    run($f, 'SELECT @@wait_timeout = @@interactive_timeout');
    $f->close();
}
$f = connect(MYSQLI_CLIENT_NO_SCHEMA);
run($f, 'SELECT app.co.s FROM app.co LOCK IN SHARE MODE');
$f = connect(before: fn ($m) => $m->options(MYSQLI_INIT_COMMAND, "SET @from_init = 'yes'"));
run($f, 'SELECT @from_init');
$f = connect(before: fn ($m) => $m->options(MYSQLI_SET_CHARSET_NAME, 'cp1250'));
run($f, "SELECT @@character_set_client, @@collation_connection");
$f = connect(before: fn ($m) => $m->options(MYSQLI_OPT_CONNECT_TIMEOUT, 5));
run($f, 'SELECT 1');
$f = connect(before: fn ($m) => $m->options(MYSQLI_OPT_READ_TIMEOUT, 30));
run($f, 'SELECT 1');

title('a hundred connections, one after the other');
$ids = [];
for ($i = 0; $i < 100; $i++) {
    $c = connect();
    $ids[$c->thread_id] = (int) $c->query("SELECT $i")->fetch_column();
    $c->close();
}
show('different', count($ids));
show('sum', array_sum($ids));

title('closed');
attempt('query', fn () => $c->query('SELECT 1'));
$m = connect();
scene($m, 'DROP TABLE co');
