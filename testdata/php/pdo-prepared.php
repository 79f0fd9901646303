<?php
// PDO: emulated and native prepared statements, types, fetching.
require __DIR__ . '/lib.php';
foreach (['emulated' => true, 'native' => false] as $name => $emulate) {
    title($name);
    $p = pdo([PDO::ATTR_EMULATE_PREPARES => $emulate], ';charset=utf8mb4');
    scene($p, 'DROP TABLE IF EXISTS pp', 'CREATE TABLE pp (id INT AUTO_INCREMENT PRIMARY KEY, n INT, d DECIMAL(10,2), f DOUBLE, s VARCHAR(50), b BLOB, t DATETIME) CHARACTER SET utf8mb4');
    $s = $p->prepare('INSERT INTO pp (n, d, f, s, b, t) VALUES (:n, :d, :f, :s, :b, :t)');
    foreach ([[1, '1.50', 0.5, 'žluť 🐎', "\0\1'\\", '2020-01-02 03:04:05'], [null, null, null, null, null, null], [-5, '-0.01', 1e20, "quote ' and \\", '', '1999-12-31 23:59:59']] as $row) {
        $s->bindValue(':n', $row[0], $row[0] === null ? PDO::PARAM_NULL : PDO::PARAM_INT);
        $s->bindValue(':d', $row[1]);
        $s->bindValue(':f', $row[2]);
        $s->bindValue(':s', $row[3], PDO::PARAM_STR);
        $s->bindValue(':b', $row[4], PDO::PARAM_LOB);
        $s->bindValue(':t', $row[5]);
        attempt('execute', fn () => [$s->execute(), $s->rowCount(), $p->lastInsertId()]);
    }
    $s = $p->prepare('SELECT * FROM pp WHERE id >= ? AND id <= ? ORDER BY id');
    foreach ([[1, 3], ['2', '2'], [9, 9]] as $range) {
        $s->execute($range);
        show('columns, rows', [$s->columnCount(), $s->rowCount()]);
        show('all', $s->fetchAll(PDO::FETCH_ASSOC));
    }
    $s->execute([1, 1]);
    for ($i = 0; $i < $s->columnCount(); $i++) {
        show("column $i", $s->getColumnMeta($i));
    }
    foreach (['num' => PDO::FETCH_NUM, 'both' => PDO::FETCH_BOTH, 'object' => PDO::FETCH_OBJ, 'column' => PDO::FETCH_COLUMN] as $how => $mode) {
        $s->execute([1, 2]);
        show($how, $s->fetchAll($mode));
    }
    $s = $p->prepare('SELECT s, n FROM pp ORDER BY id');
    $s->execute();
    show('pairs', $s->fetchAll(PDO::FETCH_KEY_PAIR));
    $s->execute();
    $s->bindColumn('s', $text);
    $s->bindColumn(2, $number, PDO::PARAM_INT);
    while ($s->fetch(PDO::FETCH_BOUND)) {
        show('bound', [$text, $number]);
    }
    $limit = $p->prepare('SELECT id FROM pp ORDER BY id LIMIT ?');
    $limit->bindValue(1, 2, PDO::PARAM_INT);
    $limit->execute();
    show('limit', $limit->fetchAll(PDO::FETCH_COLUMN));
    attempt('too few', fn () => $p->prepare('SELECT ?, ?')->execute([1]));
    attempt('unknown name', fn () => $p->prepare('SELECT :a')->execute(['b' => 1]));
    attempt('a name twice', function () use ($p) {
        $s = $p->prepare('SELECT :a, :a');
        $s->execute(['a' => 7]);
        return $s->fetch(PDO::FETCH_NUM);
    });
    attempt('a bad table', fn () => $p->prepare('SELECT * FROM nope WHERE id = ?')->execute([1]));
    attempt('a question mark in a string', function () use ($p) {
        $s = $p->prepare("SELECT '?', ? AS v");
        $s->execute(['x']);
        return $s->fetch(PDO::FETCH_NUM);
    });
    attempt('in', fn () => $p->query("SELECT GROUP_CONCAT(id ORDER BY id) FROM pp WHERE id IN (1, 2, 3)")->fetchColumn());
    attempt('two results', function () use ($p) {
        $s = $p->query('SELECT 1; SELECT 2; UPDATE pp SET n = 3; SELECT 4');
        $seen = [];
        do {
            $seen[] = $s->columnCount() > 0 ? $s->fetchAll(PDO::FETCH_COLUMN) : $s->rowCount();
        } while ($s->nextRowset());
        return $seen;
    });
    attempt('cursor closed early', function () use ($p) {
        $s = $p->prepare('SELECT id FROM pp ORDER BY id');
        $s->execute();
        $first = $s->fetchColumn();
        $s->closeCursor();
        return [$first, $p->query('SELECT 1')->fetchColumn()];
    });
    attempt('temporary table', function () use ($p) {
        $p->exec('CREATE TEMPORARY TABLE ppt (n INT)');
        $p->prepare('INSERT INTO ppt VALUES (?)')->execute([8]);
        $s = $p->prepare('SELECT n FROM ppt WHERE n = ?');
        $s->execute([8]);
        return $s->fetchAll();
    });
    attempt('call', function () use ($p) {
        $p->exec('DROP PROCEDURE IF EXISTS ppc');
        $p->exec('CREATE PROCEDURE ppc(a INT, OUT b INT) BEGIN SELECT a; SELECT a + 1; SET b = a + 2; END');
        $s = $p->prepare('CALL ppc(?, @out)');
        $s->execute([5]);
        $seen = [];
        do {
            if ($s->columnCount() > 0) {
                $seen[] = $s->fetchAll(PDO::FETCH_COLUMN);
            }
        } while ($s->nextRowset());
        $s->closeCursor();
        $seen[] = $p->query('SELECT @out')->fetchColumn();
        $p->exec('DROP PROCEDURE ppc');
        return $seen;
    });
    $write = $p->prepare('INSERT INTO pp (s) VALUES (?)');
    $read = $p->prepare('SELECT COUNT(*) FROM pp WHERE s LIKE ?');
    for ($i = 0; $i < 5; $i++) {
        $write->execute(["seen $i"]);
        $read->execute(['seen%']);
        show('read what was written', $read->fetchColumn());
    }
    $p->exec('DROP TABLE pp');
}
