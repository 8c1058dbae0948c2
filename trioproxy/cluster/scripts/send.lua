#!lua
-- A letter more in a mailbox.
tell(KEYS[1], ARGV[7], ARGV[8], ARGV[9], node)
return {'sent'}
