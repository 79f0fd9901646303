<?php
// Persistent connections: what a second use finds.
require __DIR__ . '/lib.php';
ini_set('mysqli.allow_persistent', '1');
$m = connect(prefix: 'p:');
scene($m, 'DROP TABLE IF EXISTS pe', 'CREATE TABLE pe (id INT)', 'INSERT INTO pe VALUES (1)');
scene($m, 'SET @x = 1', 'SET NAMES latin1', 'CREATE TEMPORARY TABLE pet (n INT)', 'SET SESSION sql_mode = ""', 'USE information_schema', 'BEGIN', 'INSERT INTO app.pe VALUES (2)');
$first = $m->thread_id;
$m->close();
for ($i = 0; $i < 3; $i++) {
    $m = connect(prefix: 'p:');
    show('the same connection', $first === $m->thread_id);
    run($m, 'SELECT @x, @@character_set_client, @@sql_mode <> "", DATABASE(), @@in_transaction, @@autocommit');
    run($m, 'SELECT COUNT(*) FROM pe');
    run($m, 'SELECT * FROM pet');
    $m->close();
}
show('links', count(array_filter(mysqli_get_links_stats())) > 0);

title('two at once');
$a = connect(prefix: 'p:');
$b = connect(prefix: 'p:');
show('different', $a->thread_id !== $b->thread_id);
$a->close();
$b->close();

title('without leave for a change of the user');
ini_set('mysqli.rollback_on_cached_plink', '1');
$m = connect(prefix: 'p:');
run($m, 'SELECT 1');
$m->close();

title('killed while nobody used it');
$m = connect(prefix: 'p:');
$id = $m->thread_id;
$m->close();
$k = connect();
$k->query("KILL $id");
$m = connect(prefix: 'p:');
run($m, 'SELECT 1');
show('another one', $m->thread_id !== $id);

title('PDO');
$p = pdo([PDO::ATTR_PERSISTENT => true]);
$p->exec('SET @y = 5');
$id = $p->query('SELECT CONNECTION_ID()')->fetchColumn();
$p = null;
$p = pdo([PDO::ATTR_PERSISTENT => true]);
show('the same connection', $id === $p->query('SELECT CONNECTION_ID()')->fetchColumn());
show('its variable', $p->query('SELECT @y')->fetchColumn());
scene($k, 'DROP TABLE pe');
