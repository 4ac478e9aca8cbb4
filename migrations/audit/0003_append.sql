-- The one way in.
set local role audit_owner;

create function audit.store_events(
  batch_recorded_at timestamptz, batch_chain uuid, batch_first bigint, skew_ms integer, events bytea[]
) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into audit.event (
    recorded_at, chain_id, seq, event_id, occurred_at, clock_skew_ms, schema_version, type, class_uid,
    activity_id, action, disposition, severity, origin, namespace, agent, local_at, agent_zone, relay, gateway,
    connection, connection_id, principal, auth_rule, key_id, key_slot, key_kind, identity_id, proved_by,
    listener_principal, listener_key_id, stream_id, stream_no, stream_kind, attempt, link_id, carrier, own_spki,
    peer_spki, login_id, site, client_addr, client_port, source_addr, target_host, target_addr, target_port,
    decided_by, policy_rule, policy_rules, reasons, close_reason, bundle_revision, bundle_sequence,
    bundle_sha256, managed_sha256, shadow, eval_us, dial_ms, bytes_up, bytes_down, duration_ms, actor,
    projection_error, canonical
  )
  select
    batch_recorded_at, batch_chain, batch_first + b.place - 1, env.id, env.at, skew_ms, env.v, env.type,
    t.class_uid, t.activity_id,
    case d.allow when true then 'allowed' when false then 'denied' else t.action end,
    case d.allow when true then 'allowed' when false then 'blocked' else t.disposition end,
    t.severity, o.kind || '/' || o.name, coalesce(s.namespace, o.namespace),
    coalesce(s.agent, case when o.kind = 'agent' then o.name end), env.local, o.zone,
    coalesce(s.relay, case when o.kind = 'relay' then o.name end), s.gateway,
    s.connection, s.connection_id, s.principal, s.auth_rule, s.key_id, s.key_slot, s.key_kind, s.identity_id,
    s.proved_by, s.listener_principal, s.listener_key_id, s.stream_id, s.stream_no, s.stream_kind, s.attempt,
    s.link_id, s.carrier, s.own_spki, s.peer_spki, s.login_id, s.site, s.client_addr, s.client_port,
    s.source_addr, s.target_host, s.target_addr, s.target_port,
    d.decided_by, d.rule,
    case when d.rules is not null then
      array(select jsonb_array_elements_text(coalesce(d.rules -> 'publish', '[]')))
      || array(select jsonb_array_elements_text(coalesce(d.rules -> 'stream', '[]')))
    end,
    case when d.reasons is not null then
      array(select item ->> 'code' from jsonb_array_elements(d.reasons) as item)
    end,
    case when env.type ~ '^(stream|link|publish|login)\.' or env.type = 'unpublish' then d.reason end,
    u.revision, u.sequence, u.sha256, d.managed_sha256, d.shadow, d.eval_us, d.dial_ms, d.bytes_up,
    d.bytes_down, d.duration_ms, s.actor,
    case when env.unfit is not null then
      (select string_agg(name, ',' order by name collate "C") from jsonb_object_keys(env.unfit) as name)
    end,
    b.bytes
  from unnest(events) with ordinality as b (bytes, place)
  cross join lateral jsonb_to_record(convert_from(b.bytes, 'UTF8')::jsonb) as env (
    id uuid, at timestamptz, v integer, type text, local timestamp, origin jsonb, subject jsonb, data jsonb,
    unfit jsonb
  )
  cross join lateral jsonb_to_record(env.origin) as o (kind text, name text, namespace text, zone text)
  cross join lateral jsonb_to_record(env.subject) as s (
    namespace text, agent text, relay text, gateway text, connection text, connection_id text, principal text,
    auth_rule text, key_id text, key_slot text, key_kind text, identity_id text, proved_by text,
    listener_principal text, listener_key_id text, stream_id uuid, stream_no bigint, stream_kind text,
    attempt integer, link_id uuid, carrier text, own_spki text, peer_spki text, login_id text, site text,
    client_addr inet, client_port integer, source_addr inet, target_host text, target_addr inet,
    target_port integer, actor text
  )
  cross join lateral jsonb_to_record(env.data) as d (
    allow boolean, decided_by text, rule text, rules jsonb, reasons jsonb, reason text, bundle jsonb,
    managed_sha256 text, shadow boolean, eval_us double precision, dial_ms double precision, bytes_up bigint,
    bytes_down bigint, duration_ms double precision
  )
  cross join lateral jsonb_to_record(coalesce(d.bundle, '{}')) as u (sha256 text, revision text, sequence bigint)
  left join audit.event_type as t on t.type = env.type
$$;
comment on function audit.store_events(timestamptz, uuid, bigint, integer, bytea[]) is
  'Derives the columns of events from their canonical bytes and inserts them.';

create function audit.store_each(
  batch_recorded_at timestamptz, batch_chain uuid, batch_first bigint, skew_ms integer, events bytea[]
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  for at in 1 .. coalesce(array_length(events, 1), 0) loop
    begin
      perform audit.store_events(batch_recorded_at, batch_chain, batch_first + at - 1, skew_ms, events[at:at]);
    exception
      when others then
        if left(sqlstate, 2) not in ('22', '23') then
          raise;
        end if;
        insert into audit.event (recorded_at, chain_id, seq, clock_skew_ms, projection_error, canonical)
        values (batch_recorded_at, batch_chain, batch_first + at - 1, skew_ms, 'sqlstate ' || sqlstate, events[at]);
    end;
  end loop;
end
$$;
comment on function audit.store_each(timestamptz, uuid, bigint, integer, bytea[]) is
  'Inserts events one by one; one that does not fit the columns keeps its canonical bytes alone.';

create function audit.append(
  seals text[], signatures bytea, events bytea, lengths integer[], sent_at timestamptz
) returns table (chain_id uuid, batch_no bigint, outcome text, head_batch bigint, head_seal bytea)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  now_at constant timestamptz := clock_timestamp();
  skew constant integer :=
    greatest(-2147483647, least(2147483647, extract(epoch from sent_at - now_at) * 1000))::integer;
  text_of_seal text;
  s jsonb;
  s_chain uuid;
  s_batch bigint;
  s_count integer;
  s_digest bytea;
  s_signature bytea;
  c audit.chain%rowtype;
  stored audit.seal%rowtype;
  batch_events bytea[];
  batch_leaves bytea;
  first_event jsonb;
  event_at integer := 0;
  byte_at integer := 0;
  seal_at integer := 0;
  seen_first timestamptz;
  seen_last timestamptz;
  due boolean;
begin
  if octet_length(events) <> coalesce((select sum(l) from unnest(lengths) as l), 0)
    or octet_length(signatures) <> 64 * coalesce(array_length(seals, 1), 0)
    or exists (select from unnest(lengths) as l where l < 0 or l is null)
  then
    raise exception 'audit.append: lengths do not add up' using errcode = 'SA001';
  end if;

  select partitions_at is null or partitions_at < now_at - interval '1 hour' into due from audit.upkeep;
  if due and pg_try_advisory_xact_lock(hashtext('audit.upkeep')) then
    begin
      update audit.upkeep set partitions_error = audit.ensure_partitions(), partitions_at = now_at;
    exception
      -- A forgotten or failing upkeep must never stop traffic: the default partition takes the rows.
      when others then
        update audit.upkeep set partitions_error = sqlerrm, partitions_at = now_at;
    end;
  end if;

  foreach text_of_seal in array seals loop
    s := text_of_seal::jsonb;
    s_chain := (s ->> 'chain')::uuid;
    s_batch := (s ->> 'batch')::bigint;
    s_count := (s ->> 'n')::integer;
    s_digest := sha256(convert_to(E'sallyport.audit.seal.v1\n' || text_of_seal, 'UTF8'));
    s_signature := substring(signatures from seal_at * 64 + 1 for 64);
    if event_at + s_count > coalesce(array_length(lengths, 1), 0) then
      raise exception 'audit.append: % events for a seal over %', coalesce(array_length(lengths, 1), 0), s_count
        using errcode = 'SA001';
    end if;
    select
      coalesce(array_agg(x.bytes order by x.place), '{}'),
      coalesce(string_agg(sha256('\x00'::bytea || x.bytes), ''::bytea order by x.place), ''::bytea)
    into batch_events, batch_leaves
    from (
      select place, substring(events from byte_at + 1 + (sum(l) over (order by place))::integer - l for l) as bytes
      from unnest(lengths[event_at + 1 : event_at + s_count]) with ordinality as piece (l, place)
    ) as x;
    byte_at := byte_at + coalesce((select sum(l) from unnest(lengths[event_at + 1 : event_at + s_count]) as l), 0);
    event_at := event_at + s_count;
    seal_at := seal_at + 1;

    chain_id := s_chain;
    batch_no := s_batch;
    select * into c from audit.chain as k where k.chain_id = s_chain for update;
    if not found then
      if s_batch <> 1 then
        outcome := 'gap'; head_batch := 0; head_seal := null;
        return next; return;
      end if;
      first_event := null;
      begin
        first_event := convert_from(batch_events[1], 'UTF8')::jsonb -> 'origin';
      exception
        when data_exception then null;
      end;
      insert into audit.chain as k (
        chain_id, owner, origin_kind, origin_name, origin_instance, namespace, version, zone, signer, epoch,
        prev_chain, opened_at, last_recorded_at, last_sealed_at, last_batch, last_seq, head, final, events,
        dropped, fork_alarms
      )
      values (
        s_chain, session_user, first_event ->> 'kind', first_event ->> 'name', first_event ->> 'instance',
        first_event ->> 'namespace', first_event ->> 'version', first_event ->> 'zone', s ->> 'signer',
        (s ->> 'epoch')::bigint, (s ->> 'prev_chain')::uuid, now_at, now_at, (s ->> 'time')::timestamptz, 0, 0,
        null, false, 0, 0, 0
      )
      on conflict do nothing;
      select * into strict c from audit.chain as k where k.chain_id = s_chain for update;
      insert into audit.signer as k (signer, origin_kind, origin_name, first_seen_at, last_seen_at)
      values (s ->> 'signer', c.origin_kind, c.origin_name, now_at, now_at)
      on conflict (signer) do update set last_seen_at = excluded.last_seen_at;
    end if;
    if c.owner <> session_user then
      outcome := 'not_owner'; head_batch := null; head_seal := null;
      return next; return;
    end if;
    head_batch := c.last_batch;
    head_seal := c.head;

    select * into stored from audit.seal as k where k.chain_id = s_chain and k.batch_no = s_batch;
    if found then
      if stored.seal = s_digest and stored.signature = s_signature then
        outcome := 'acknowledged';
        return next; continue;
      end if;
      outcome := 'fork';
    elsif c.final then
      outcome := 'fork';
    elsif s_batch <> c.last_batch + 1 or (s ->> 'first')::bigint <> c.last_seq + 1 then
      outcome := 'gap';
    elsif c.last_batch > 0 and decode(coalesce(s ->> 'prev', ''), 'hex') <> c.head then
      outcome := 'fork';
    elsif (s ->> 'last')::bigint <> c.last_seq + s_count then
      raise exception 'audit.append: a seal over % events names the last one as %', s_count, s ->> 'last'
        using errcode = 'SA001';
    else
      outcome := 'stored';
    end if;
    if outcome <> 'stored' then
      update audit.chain as k set fork_alarms = k.fork_alarms + 1, last_alarm_at = now_at where k.chain_id = s_chain;
      return next; return;
    end if;

    begin
      perform audit.store_events(now_at, s_chain, c.last_seq + 1, skew, batch_events);
    exception
      when others then
        if left(sqlstate, 2) not in ('22', '23') then
          raise;
        end if;
        perform audit.store_each(now_at, s_chain, c.last_seq + 1, skew, batch_events);
    end;
    select min(e.occurred_at), max(e.occurred_at) into seen_first, seen_last
    from audit.event as e
    where e.chain_id = s_chain and e.seq > c.last_seq and e.seq <= c.last_seq + s_count and e.recorded_at = now_at;
    insert into audit.seal_leaves (recorded_at, chain_id, batch_no, leaves)
    values (now_at, s_chain, s_batch, batch_leaves);
    insert into audit.seal (
      chain_id, batch_no, first_seq, last_seq, event_count, dropped, root, seal, prev_seal, prev_chain, signer,
      signature, sealed_at, epoch, final, canonical, recorded_at, first_at, last_at
    )
    values (
      s_chain, s_batch, (s ->> 'first')::bigint, (s ->> 'last')::bigint, s_count, (s ->> 'dropped')::bigint,
      decode(s ->> 'root', 'hex'), s_digest, decode(s ->> 'prev', 'hex'), (s ->> 'prev_chain')::uuid,
      s ->> 'signer', s_signature, (s ->> 'time')::timestamptz, (s ->> 'epoch')::bigint,
      (s ->> 'final')::boolean, convert_to(text_of_seal, 'UTF8'), now_at, seen_first, seen_last
    );
    update audit.chain as k set
      last_batch = s_batch, last_seq = (s ->> 'last')::bigint, head = s_digest, signer = s ->> 'signer',
      final = (s ->> 'final')::boolean, last_recorded_at = now_at, last_sealed_at = (s ->> 'time')::timestamptz,
      events = k.events + s_count, dropped = k.dropped + (s ->> 'dropped')::bigint
    where k.chain_id = s_chain;
    head_batch := s_batch;
    head_seal := s_digest;
    return next;
  end loop;
end
$$;
comment on function audit.append(text[], bytea, bytea, integer[], timestamptz) is
  'Stores sealed batches in order and says for each: stored, acknowledged (the same seal was there), fork, gap or '
  'not_owner; it stops at the first that is none of the first two. seals: canonical texts; signatures: 64 bytes each; '
  'events: canonical bytes one after the other, cut by lengths.';

reset role;
