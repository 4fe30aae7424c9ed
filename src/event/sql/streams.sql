-- The streams of the messages $1; they lie between $2 and $3, so that few days are looked through.
select m.message_id, s.name from postrider.message m join postrider.stream s using (stream_id)
where m.message_id = any ($1) and m.message_id between $2 and $3
