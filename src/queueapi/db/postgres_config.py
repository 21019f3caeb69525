"""The embedded PostgreSQL's settings: durable, and small enough to sit beside the service."""

SETTINGS = """\
# Written by queueapi at every start. Your own settings go into postgres.local.conf beside it.
max_connections = 100
shared_buffers = 64MB
huge_pages = off
work_mem = 8MB
maintenance_work_mem = 64MB
effective_cache_size = 1GB
random_page_cost = 1.1
jit = off

# A commit that was answered survives a crash.
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = minimal
max_wal_senders = 0
wal_compression = on
wal_buffers = 8MB
max_wal_size = 2GB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9

# Few processes: no I/O workers, replication launcher or parallel queries.
io_method = sync
max_logical_replication_workers = 0
max_worker_processes = 2
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0

# A queue's rows change often.
autovacuum = on
autovacuum_max_workers = 2
autovacuum_naptime = 20s
autovacuum_vacuum_scale_factor = 0.05
autovacuum_analyze_scale_factor = 0.05
autovacuum_vacuum_cost_limit = 1000

timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
log_error_verbosity = terse
log_checkpoints = off

include_if_exists = 'postgres.local.conf'
"""

LOCAL_SETTINGS = """\
# Settings of your own for queueapi's embedded PostgreSQL, read at its start after postgres.conf.
"""
