delete from postrider.unknown_reply
