-- One event: a session of 20 point selects, as a PHP page is, at the level of
-- consistency that the environment's FARMHAND_LEVEL names.
local level = os.getenv("FARMHAND_LEVEL") or "session"
local driver

function thread_init() driver = sysbench.sql.driver() end

function event()
  local connection = driver:connect()
  for _ = 1, 20 do
    connection:query("/* farmhand: consistency=" .. level .. " */ SELECT c FROM sbtest1 WHERE id=" .. sysbench.rand.uniform(1, 10000))
  end
  connection:disconnect()
end
