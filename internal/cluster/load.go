package cluster

// The measurements of a report's load. A rate is over the time since the report's
// maker measured before; a share is 0 to 1. What is not known is not there.
const (
	// Of the machine, as its kernel shows it.
	LoadProcessors      = "processors"
	Load1               = "load1" // the load average over a minute, of all processors together
	Load5               = "load5"
	Load15              = "load15"
	LoadCPUShare        = "cpu_share" // processors in use
	LoadMemoryShare     = "memory_share"
	LoadMemoryBytes     = "memory_bytes" // all that there are
	LoadDiskShare       = "disk_share"   // of the file system with the data
	LoadDiskBytes       = "disk_bytes"   // all that it has
	LoadDiskFree        = "disk_free_bytes"
	LoadNetworkReceived = "network_received_bytes_per_second"
	LoadNetworkSent     = "network_sent_bytes_per_second"

	// Of a database server.
	LoadClients          = "clients"           // sessions but the farm's own and replicas'; of a proxy, too
	LoadThreadsConnected = "threads_connected" // all sessions
	LoadThreadsRunning   = "threads_running"
	LoadConnectionsShare = "connections_share"  // threads_connected of what the server allows
	LoadQueries          = "queries_per_second" // statements that clients sent, the farm's own included
	LoadReads            = "selects_per_second"
	LoadWrites           = "writes_per_second"  // INSERT, UPDATE, DELETE, REPLACE
	LoadCommits          = "commits_per_second" // COMMIT statements
	LoadServerReceived   = "server_received_bytes_per_second"
	LoadServerSent       = "server_sent_bytes_per_second"
	LoadPageReads        = "page_reads_per_second" // InnoDB pages that were not in memory

	// Of a proxy. All but two are rates, so that those of several add up.
	LoadStatements     = "proxy_statements_per_second"      // commands that servers answered
	LoadCommandTime    = "proxy_command_seconds_per_second" // how long those took, together: from routing to the end of the answer
	LoadWaits          = "proxy_waits_per_second"           // statements that waited for a connection because of a limit
	LoadWaitTime       = "proxy_wait_seconds_per_second"    // how long, together
	LoadReplicaReads   = "proxy_replica_reads_per_second"   // commands that replicas answered
	LoadForcedReads    = "proxy_forced_reads_per_second"    // reads on the primary because no replica could serve them
	LoadWaitingClients = "proxy_waiting"                    // sessions that wait for a connection now; no rate
	// Of a web server or a load balancer.
	LoadRequests = "requests_per_second"
	// Of memcached.
	LoadCacheReads     = "cache_reads_per_second"
	LoadCacheMisses    = "cache_misses_per_second"
	LoadCacheEvictions = "cache_evictions_per_second" // items that were thrown out before their time
	LoadCacheShare     = "cache_share"                // of its memory in use

	// Of a node with workers.
	LoadJobs     = "jobs"              // messages that its workers have now
	LoadQueueAge = "queue_age_seconds" // how long the message had waited that waited longest of those that they got last

	// Of a proxy, beside LoadClients, the sessions that there are.
	LoadNewClients = "proxy_new_clients_per_second"
)
