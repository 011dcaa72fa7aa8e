"""The Lua that changes the state of a job, each text one atomic step; `pipeline.jobs` says what they mean."""

from __future__ import annotations

_PUBLISH = """
local function publish(stream, fields)
  return redis.call('XADD', stream, '*', unpack(cjson.decode(fields)))
end
local function note(timeline, at, what, scan_id)
  redis.call('XADD', timeline, 'MAXLEN', '~', 1000, '*', 'at', at, 'what', what, 'scan_id', scan_id)
  redis.call('PUBLISH', timeline, what)
end
-- Looks at whose the entry is: a stream that was deleted may give an id anew within the same millisecond.
local function in_line(stream, entry, id)
  local found = entry and redis.call('XRANGE', stream, entry, entry)[1]
  for _, text in ipairs(found and found[2] or {}) do
    if text == id then return true end
  end
  return false
end
local function wait_in_line(line, job, scan_id, entry)
  redis.call('HSET', job, scan_id .. ':state', 'waiting', scan_id .. ':entry', entry,
             scan_id .. ':number', redis.call('HINCRBY', line, 'joined', 1))
end
local function announce(job, results, finished)
  redis.call('HSET', job, 'announcement', publish(results, finished))
end
local function reopen(job, scan_id, mail)
  redis.call('HSET', job, 'state', 'open', 'mail', mail, scan_id .. ':state', 'waiting')
  redis.call('HDEL', job, scan_id .. ':deliveries')
  redis.call('HINCRBY', job, 'remaining', 1)
end
"""

# KEYS: job, timeline, scans, results, line. ARGV: a plan in JSON.
# Safe to run any number of times: a scan that is in the stream, or has ended, is left alone, unless its files
# say that it has been retried since. (That a failed scan has no failure on disk says less: the plan may have
# been made before it failed.) A job whose mail is due and whose announcement is not in the stream of results
# is announced again: a mail leaves that stream in the same step in which it becomes `sent` or `failed` here.
ENQUEUE = (
    _PUBLISH
    + """
local job, timeline, scans, results, line = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local plan = cjson.decode(ARGV[1])
local queued = 0
if redis.call('HGET', job, 'created_at') ~= plan.created_at then
  redis.call('DEL', job, timeline)  -- of an earlier job with the same Idempotency-Key, which has expired
  redis.call('HSET', job, 'state', 'open', 'created_at', plan.created_at, 'mail', plan.mail,
             'remaining', #plan.scans)
  note(timeline, plan.at, 'received', '')
end
for _, scan in ipairs(plan.scans) do
  local field = scan.scan_id .. ':state'
  local state = redis.call('HGET', job, field)
  local retries = tonumber(redis.call('HGET', job, scan.scan_id .. ':retries') or 0)
  if scan.retries > retries then
    if state == 'failed' then
      reopen(job, scan.scan_id, plan.mail)
      note(timeline, plan.at, 'retried', scan.scan_id)
      state = 'waiting'
    end
    redis.call('HSET', job, scan.scan_id .. ':retries', scan.retries)
  end
  local entry = redis.call('HGET', job, scan.scan_id .. ':entry')
  if state == 'done' or state == 'failed' or in_line(scans, entry, scan.scan_id) then
    -- in order
  elseif scan.outcome then
    redis.call('HSET', job, field, scan.outcome)
    redis.call('HINCRBY', job, 'remaining', -1)
    note(timeline, plan.at, scan.outcome, scan.scan_id)
  else
    wait_in_line(line, job, scan.scan_id, publish(scans, scan.event))
    note(timeline, plan.at, 'waiting', scan.scan_id)
    queued = queued + 1
  end
end
if redis.call('HGET', job, 'state') == 'open' and redis.call('HGET', job, 'remaining') == '0' then
  redis.call('HSET', job, 'state', 'finished')
  note(timeline, plan.at, 'finished', '')
end
if redis.call('HGET', job, 'state') == 'finished' and plan.mail == 'pending'
   and redis.call('HGET', job, 'mail') == 'pending'
   and not in_line(results, redis.call('HGET', job, 'announcement'), plan.job_id) then
  announce(job, results, plan.finished)
end
redis.call('EXPIREAT', job, plan.forget_at)
redis.call('EXPIREAT', timeline, plan.forget_at)
return queued
"""
)

# KEYS: job, timeline, line. ARGV: scan_id, deliveries, at. Scans start in the order of the line, or nearly.
STARTED = (
    _PUBLISH
    + """
local state = redis.call('HGET', KEYS[1], ARGV[1] .. ':state')
if state ~= 'waiting' and state ~= 'detecting' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1] .. ':state', 'detecting', ARGV[1] .. ':deliveries', ARGV[2])
note(KEYS[2], ARGV[3], 'detecting', ARGV[1])
local number = tonumber(redis.call('HGET', KEYS[1], ARGV[1] .. ':number') or 0)
if number > tonumber(redis.call('HGET', KEYS[3], 'started') or 0) then
  redis.call('HSET', KEYS[3], 'started', number)
end
return 1
"""
)

# KEYS: job, timeline, results. ARGV: scan_id, outcome, event, job.finished, at
ENDED = (
    _PUBLISH
    + """
local job, timeline, results = KEYS[1], KEYS[2], KEYS[3]
local scan_id, outcome, at = ARGV[1], ARGV[2], ARGV[5]
local state = redis.call('HGET', job, scan_id .. ':state')
if state ~= 'waiting' and state ~= 'detecting' then return 0 end
redis.call('HSET', job, scan_id .. ':state', outcome)
redis.call('HDEL', job, scan_id .. ':entry')
publish(results, ARGV[3])
note(timeline, at, outcome, scan_id)
if redis.call('HINCRBY', job, 'remaining', -1) == 0 then
  redis.call('HSET', job, 'state', 'finished')
  announce(job, results, ARGV[4])
  note(timeline, at, 'finished', '')
end
return 1
"""
)

# KEYS: job, timeline, scans, line. ARGV: scan_id, retries, mail state, at. For `DeadLetters.retry`.
RETRIED = (
    _PUBLISH
    + """
local job, timeline, scans, line = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local scan_id = ARGV[1]
local state = redis.call('HGET', job, scan_id .. ':state')
if state == 'done' then return {'done'} end
if in_line(scans, redis.call('HGET', job, scan_id .. ':entry'), scan_id) then return {'in line'} end
local entry = put_back()
if state == 'failed' then reopen(job, scan_id, ARGV[3]) end
wait_in_line(line, job, scan_id, entry)
redis.call('HSET', job, scan_id .. ':retries', ARGV[2])
note(timeline, ARGV[4], 'retried', scan_id)
return entry
"""
)

# KEYS: job, timeline. ARGV: at. For `DeadLetters.retry`.
MAIL_RETRIED = (
    _PUBLISH
    + """
if redis.call('HGET', KEYS[1], 'mail') == 'sent' then return {'sent'} end
redis.call('HSET', KEYS[1], 'mail', 'pending')
note(KEYS[2], ARGV[1], 'mail retried', '')
local entry = put_back()
redis.call('HSET', KEYS[1], 'announcement', entry)
return entry
"""
)

# KEYS: job, timeline. ARGV: mail state, at. An open job was retried after the end that the mail is about.
MAILED = (
    _PUBLISH
    + """
if redis.call('HGET', KEYS[1], 'state') ~= 'finished' then return 0 end
redis.call('HSET', KEYS[1], 'mail', ARGV[1])
note(KEYS[2], ARGV[2], 'mail ' .. ARGV[1], '')
return 1
"""
)
