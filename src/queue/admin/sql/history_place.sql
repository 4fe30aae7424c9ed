-- The partition that holds the attempts of day $1 (UTC), and its size in pages.
select p.part::text as part, (pg_relation_size(p.part) / current_setting('block_size')::int)::bigint as pages
from (select coalesce(to_regclass('postrider.attempt_' || to_char($1::date, 'YYYYMMDD')),
                      'postrider.attempt_default'::regclass) as part) p
