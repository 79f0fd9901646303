<?php
// PDO: transactions, autocommit, errors inside.
require __DIR__ . '/lib.php';
$p = pdo();
scene($p, 'DROP TABLE IF EXISTS pt', 'CREATE TABLE pt (id INT PRIMARY KEY)');
$count = fn () => $p->query('SELECT COUNT(*) FROM pt')->fetchColumn();
show('in', $p->inTransaction());
show('begin', $p->beginTransaction());
show('in', $p->inTransaction());
show('insert', $p->exec('INSERT INTO pt VALUES (1)'));
show('count', $count());
show('rollback', $p->rollBack());
show('count', $count());
attempt('begin twice', fn () => [$p->beginTransaction(), $p->beginTransaction()]);
show('insert', $p->exec('INSERT INTO pt VALUES (1), (2)'));
show('commit', $p->commit());
show('count', $count());
attempt('commit without begin', fn () => $p->commit());
attempt('rollback without begin', fn () => $p->rollBack());
attempt('begin by SQL', function () use ($p) {
    $p->exec('START TRANSACTION');
    $p->exec('INSERT INTO pt VALUES (3)');
    $in = $p->inTransaction();
    $p->rollBack();
    return [$in, $p->inTransaction()];
});
show('count', $count());
attempt('DDL in it', function () use ($p) {
    $p->beginTransaction();
    $p->exec('INSERT INTO pt VALUES (4)');
    $p->exec('CREATE TABLE IF NOT EXISTS pt2 (id INT)');
    return $p->inTransaction();
});
attempt('rollback after it', fn () => $p->rollBack());
show('count', $count());
$p->exec('DROP TABLE pt2');
attempt('an error in it', function () use ($p) {
    $p->beginTransaction();
    $p->exec('INSERT INTO pt VALUES (5)');
    try {
        $p->exec('INSERT INTO pt VALUES (5)');
    } catch (PDOException $e) {
        show('inside', $e->errorInfo);
    }
    return [$p->inTransaction(), $p->commit()];
});
show('count', $count());
title('autocommit off');
show('set', $p->setAttribute(PDO::ATTR_AUTOCOMMIT, false));
show('get', $p->getAttribute(PDO::ATTR_AUTOCOMMIT));
show('insert', $p->exec('INSERT INTO pt VALUES (6)'));
show('in', $p->inTransaction());
show('rollback', $p->rollBack());
show('count', $count());
show('insert', $p->exec('INSERT INTO pt VALUES (7)'));
show('set', $p->setAttribute(PDO::ATTR_AUTOCOMMIT, true));
show('count', $count());
show('server', $p->query('SELECT @@autocommit, @@in_transaction')->fetch(PDO::FETCH_NUM));
title('native statements in a transaction');
$n = pdo([PDO::ATTR_EMULATE_PREPARES => false]);
$n->exec('REPLACE INTO pt VALUES (50)');
$n->beginTransaction();
$insert = $n->prepare('INSERT INTO pt VALUES (?)');
$read = $n->prepare('SELECT COUNT(*) FROM pt WHERE id >= ?');
for ($i = 100; $i < 105; $i++) {
    $insert->execute([$i]);
    $read->execute([100]);
    show('count', $read->fetchColumn());
}
$n->rollBack();
$read->execute([100]);
show('after', $read->fetchColumn());
$n = null;
$p->exec('DROP TABLE pt');
