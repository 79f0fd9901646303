<?php
// PDO: attributes, flags of the connection, error modes, unbuffered results.
require __DIR__ . '/lib.php';
$p = pdo();
title('attributes');
foreach (['SERVER_VERSION', 'CLIENT_VERSION', 'DRIVER_NAME', 'AUTOCOMMIT', 'ERRMODE', 'CASE', 'ORACLE_NULLS', 'PERSISTENT', 'EMULATE_PREPARES', 'DEFAULT_FETCH_MODE'] as $name) {
    attempt($name, fn () => $p->getAttribute(constant("PDO::ATTR_$name")));
}
attempt('SERVER_INFO', fn () => preg_replace('/[\d.]+/', 'N', $p->getAttribute(PDO::ATTR_SERVER_INFO)));
attempt('CONNECTION_STATUS', fn () => str_replace(getenv('DB_HOST') ?: '?', 'HOST', $p->getAttribute(PDO::ATTR_CONNECTION_STATUS)));
show('quote', $p->quote("it's \\ \0 ž"));

title('error modes');
scene($p, 'DROP TABLE IF EXISTS pa', 'CREATE TABLE pa (id INT PRIMARY KEY, s VARCHAR(5))');
foreach (['SILENT', 'WARNING', 'EXCEPTION'] as $mode) {
    $p->setAttribute(PDO::ATTR_ERRMODE, constant("PDO::ERRMODE_$mode"));
    attempt("$mode query", fn () => $p->query('SELECT * FROM nope'));
    show('errorInfo', $p->errorInfo());
    attempt("$mode exec", fn () => $p->exec('INSERT INTO pa VALUES (1, "far too long")'));
    show('errorCode', $p->errorCode());
    $s = $p->prepare('SELECT (SELECT 1 UNION SELECT ?)');
    attempt("$mode execute", fn () => $s->execute([2]));
    show('statement', $s->errorInfo());
}

title('counting');
scene($p, "INSERT INTO pa VALUES (1, 'a'), (2, 'b')");
show('changed', $p->exec("UPDATE pa SET s = 'a' WHERE id = 1"));
$f = pdo([PDO::MYSQL_ATTR_FOUND_ROWS => true]);
show('found', $f->exec("UPDATE pa SET s = 'a' WHERE id = 1"));
show('delete', $p->exec('DELETE FROM pa WHERE id > 1'));
show('select by exec', $p->exec('SELECT 1'));

title('options');
$o = pdo([PDO::MYSQL_ATTR_INIT_COMMAND => "SET @i = 'init', sql_mode = 'ANSI'"]);
show('init', $o->query('SELECT @i, @@sql_mode')->fetch(PDO::FETCH_NUM));
$o = pdo([PDO::MYSQL_ATTR_MULTI_STATEMENTS => false]);
attempt('several', fn () => $o->query('SELECT 1; SELECT 2'));
$o = pdo([PDO::ATTR_STRINGIFY_FETCHES => true, PDO::ATTR_EMULATE_PREPARES => false]);
show('stringify', $o->query('SELECT 1, 1.5, NULL')->fetch(PDO::FETCH_NUM));
$o = pdo([PDO::ATTR_CASE => PDO::CASE_UPPER]);
show('upper', $o->query('SELECT 1 AS lower')->fetch(PDO::FETCH_ASSOC));
$o = pdo([PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_NUM], ';charset=latin2');
show('charset', $o->query('SELECT @@character_set_client, @@character_set_results')->fetch());
for ($i = 0; $i < 3; $i++) { // again on what another has used
    $o = pdo([PDO::MYSQL_ATTR_IGNORE_SPACE => true]);
    show('ignore space', $o->query('SELECT COUNT (*) FROM seq_1_to_3')->fetchColumn());
    $o = null;
}
$o = pdo([PDO::MYSQL_ATTR_DIRECT_QUERY => true]);
show('direct', $o->query('SELECT 5')->fetchColumn());

title('unbuffered');
foreach ([true, false] as $emulate) {
    $u = pdo([PDO::MYSQL_ATTR_USE_BUFFERED_QUERY => false, PDO::ATTR_EMULATE_PREPARES => $emulate]);
    $s = $u->prepare('SELECT seq FROM seq_1_to_3000 WHERE seq > ?');
    $s->execute([0]);
    $sum = 0;
    while (($n = $s->fetchColumn()) !== false) {
        $sum += $n;
    }
    show('sum', $sum);
    $s->execute([0]);
    show('first', $s->fetchColumn());
    attempt('another meanwhile', fn () => $u->query('SELECT 1')->fetchColumn());
    $s->closeCursor();
    attempt('another after', fn () => $u->query('SELECT 1')->fetchColumn());
}

title('not let in');
foreach ([['nobody', 'x'], [getenv('DB_USER'), 'wrong']] as [$user, $password]) {
    attempt($user, fn () => new PDO(dsn(), $user, $password));
}
attempt('schema', fn () => new PDO(str_replace('dbname=app', 'dbname=nope', dsn()), getenv('DB_USER'), getenv('DB_PASSWORD')));
scene(pdo(), 'DROP TABLE pa');
