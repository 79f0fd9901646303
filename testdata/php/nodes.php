<?php
// Posts on one web node and reads on the other, page after page, each page with
// a connection of its own. DB_NODES has their proxies' addresses.
require __DIR__ . '/lib.php';

function page(string $node): mysqli
{
    [$host, $port] = explode(':', $node);
    $m = mysqli_init();
    if (!$m->real_connect($host, getenv('DB_USER'), getenv('DB_PASSWORD'), getenv('DB_SCHEMA'), (int) $port)) {
        echo 'not connected: ', mysqli_connect_error(), "\n";
        exit(1);
    }
    return $m;
}

$nodes = explode(' ', getenv('DB_NODES'));
$stale = 0;
$posts = 200;
for ($i = 1; $i <= $posts; $i++) {
    $m = page($nodes[$i % 2]);
    scene($m, "INSERT INTO post (body) VALUES ('post $i')");
    $id = $m->insert_id;
    $m->close();
    $m = page($nodes[($i + 1) % 2]);
    if ($i % 3 === 0) {
        $statement = $m->prepare('SELECT body FROM post WHERE id = ?');
        $statement->bind_param('i', $id);
        $statement->execute();
        $row = $statement->get_result()->fetch_row();
    } else {
        $row = $m->query("SELECT body FROM post WHERE id = $id")->fetch_row();
    }
    $stale += ($row[0] ?? '') === "post $i" ? 0 : 1;
    $m->close();
}
echo "posts $posts, stale $stale\n";
