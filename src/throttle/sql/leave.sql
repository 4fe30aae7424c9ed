-- Session $1 gives up all its slots.
delete from postrider.throttle_slot where session_id = $1
