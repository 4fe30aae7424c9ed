-- The backstop behind the hints: lanes that hold rows in one generation, by a loose
-- index scan (one probe a lane, whatever the depth).
with recursive w as (
  (select lane_id from postrider.ready_g{g} order by lane_id limit 1)
  union all
  select (select r.lane_id from postrider.ready_g{g} r where r.lane_id > w.lane_id order by r.lane_id limit 1)
  from w where w.lane_id is not null
)
select lane_id from w where lane_id is not null
