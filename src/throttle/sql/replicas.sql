-- The time of the database's clock in seconds, and how many replicas live.
select extract(epoch from clock_timestamp())::float8,
       (select count(*) from postrider.worker_session
        where state = 'alive' and beat_at > now() - interval '30 seconds')
