<?php
// What the columns of results are said to be, in both protocols.
require __DIR__ . '/lib.php';
$m = connect();
$m->set_charset('utf8mb4');
scene($m, 'DROP TABLE IF EXISTS meta', 'DROP VIEW IF EXISTS meta_view', "CREATE TABLE meta (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, ti TINYINT, bo BOOL DEFAULT 1, si SMALLINT UNSIGNED ZEROFILL, mi MEDIUMINT,
    i INT NOT NULL DEFAULT 5, de DECIMAL(20, 6), fl FLOAT, do DOUBLE, bi BIT(11), da DATE, dt DATETIME(3), ts TIMESTAMP NULL, tm TIME(6), ye YEAR,
    ch CHAR(5), vc VARCHAR(77) NOT NULL, vb VARBINARY(9), bn BINARY(4), tt TINYTEXT, tx TEXT, mt MEDIUMTEXT, lt LONGTEXT CHARACTER SET latin1,
    tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB, en ENUM('a', 'b'), se SET('x', 'y', 'z'), js JSON, ge GEOMETRY,
    u6 UUID, ip INET6, UNIQUE KEY (vc), KEY (i, ti)) CHARACTER SET utf8mb4",
    "INSERT INTO meta (ti, si, mi, i, de, fl, do, bi, da, dt, ts, tm, ye, ch, vc, vb, bn, tt, tx, mt, lt, tb, bl, mb, lb, en, se, js, ge, u6, ip)
    VALUES (-128, 7, -8388608, 2147483647, -12345.678901, 1.25, -2.5e-300, b'10101010101', '1000-01-01', '2020-02-29 23:59:59.123', '2001-01-01 00:00:00', '-838:59:59.000001', 1999,
    'ž', 'žluťoučký 🐎', X'00FF', 'ab', 't', 'tx', 'mt', 'ÿ', 'tb', X'00', 'mb', '', 'b', 'x,z', '{\"a\": 1}', ST_GeomFromText('POINT(1 2)'), '123e4567-e89b-12d3-a456-426614174000', '::1')",
    'CREATE VIEW meta_view AS SELECT id AS number, vc AS name FROM meta');

function fields(mysqli_result $r): void
{
    foreach ($r->fetch_fields() as $f) {
        unset($f->max_length); // a property of the rows: kept by stored results only
        echo '  ', text($f), "\n";
    }
}

foreach (['SELECT * FROM meta', 'SELECT m.id AS a, n.number, UPPER(n.name), m.i + 1, COUNT(*), NULL, NOW() > 0 FROM meta m JOIN meta_view n ON n.number = m.id GROUP BY m.id',
    'SHOW TABLE STATUS LIKE "meta"', 'SELECT 1 FROM DUAL WHERE 0', 'SHOW VARIABLES LIKE "character_set_client"'] as $sql) {
    title("text: $sql");
    $r = $m->query($sql);
    fields($r);
    if (!str_starts_with($sql, 'SHOW')) {
        show('row', $r->fetch_assoc());
    }
    title("binary: $sql");
    $s = $m->prepare($sql);
    if ($s === false) {
        echo after($m), "\n";
        continue;
    }
    show('field_count, param_count', [$s->field_count, $s->param_count]);
    if ($meta = $s->result_metadata()) {
        fields($meta);
    }
    $s->execute();
    $r = $s->get_result();
    fields($r);
    if (!str_starts_with($sql, 'SHOW')) {
        show('row', $r->fetch_assoc());
    }
    $s->close();
}

title('field_seek and fetch_field');
$r = $m->query('SELECT id, vc FROM meta');
show('tell', $r->current_field);
show('name', $r->fetch_field()->name);
show('seek', $r->field_seek(0));
show('direct', $r->fetch_field_direct(1)->orgtable);
scene($m, 'DROP VIEW meta_view', 'DROP TABLE meta');
