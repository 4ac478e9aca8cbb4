import pg from 'pg';

const DAY_MS = 86_400_000;
const BATCH_EVENTS = 200;
/** Streams of one data link, and of one change of the control plane. */
const STREAMS_OF_LINK = 500;
const STREAMS_OF_CHANGE = 5_000;
const PRINCIPALS = 50;
const CONNECTIONS = 20;
const TARGETS = 200;
/** One stream in so many is denied. */
const DENIED_OF = 50;

const AGENT_CHAIN = '01a00000-0000-7000-8000-00000000a001';
const RELAY_CHAIN = '01a00000-0000-7000-8000-00000000b001';

export interface SizedStoreOptions {
  readonly streams: number;
  /** UTC days, the last of which is that of `lastDay`; each gets a partition of its own. */
  readonly days: number;
  /** `YYYY-MM-DD`. */
  readonly lastDay: string;
  readonly onProgress?: (events: number) => void;
}

export interface SizedStore {
  readonly events: number;
  /** First instant of each day, `YYYY-MM-DD`. */
  readonly days: readonly string[];
}

const uuid = (kind: number, number: number): string =>
  `01a0000${kind}-0000-7000-8000-${number.toString(16).padStart(12, '0')}`;

interface Place {
  readonly id: string;
  readonly atMs: number;
  readonly relay?: boolean;
}

const envelope = (place: Place, type: string, subject: object, data: object): string =>
  JSON.stringify({
    at: new Date(place.atMs).toISOString(),
    chain: place.relay === true ? RELAY_CHAIN : AGENT_CHAIN,
    data,
    id: place.id,
    local: new Date(place.atMs).toISOString().slice(0, -1),
    origin: {
      instance: '01a218f2-363a-7340-ba98-f07f50a34e47',
      kind: place.relay === true ? 'relay' : 'agent',
      name: place.relay === true ? 'relay-1' : 'agent-1',
      namespace: 'relay.example.com',
      version: '0.1.0',
      zone: 'UTC',
    },
    subject,
    type,
    v: 1,
  });

interface StreamFacts {
  readonly number: number;
  readonly connection: string;
  readonly principal: string;
  readonly keyId: string;
  readonly host: string;
  readonly address: string;
  readonly linkId: string;
}

const factsOf = (number: number): StreamFacts => {
  // Primes, so that pairs mix; a few pairs are rare.
  const principal = (number * 7919) % PRINCIPALS;
  const target = (number * 104_729 + Math.floor(number / PRINCIPALS)) % TARGETS;
  return {
    number,
    connection: `connection-${principal % CONNECTIONS}`,
    principal: `application-${principal}`,
    keyId: `k_${principal.toString(16).padStart(20, '0')}`,
    host: `server-${target}.corp.example`,
    address: `10.1.${Math.floor(target / 250)}.${(target % 250) + 1}`,
    linkId: uuid(3, Math.floor(number / STREAMS_OF_LINK)),
  };
};

/** Members and sizes as an agent records them. */
const subjectOf = (facts: StreamFacts): object => ({
  agent: 'agent-1',
  attempt: 1,
  auth_rule: facts.principal,
  carrier: 'tcp',
  client_addr: '10.9.8.7',
  client_port: 50_000 + (facts.number % 10_000),
  connection: facts.connection,
  connection_id: '01a218f2-2fbb-745e-a8eb-48a32d77c62f',
  gateway: 'gateway-1',
  key_id: facts.keyId,
  key_kind: 'sas',
  key_slot: 'primary',
  link_id: facts.linkId,
  listener_key_id: 'k_884c591562b5b3be7a3a',
  listener_principal: 'defaultListener',
  namespace: 'relay.example.com',
  principal: facts.principal,
  proved_by: 'relay',
  relay: 'relay-1',
  source_addr: '203.0.113.7',
  stream_id: uuid(1, facts.number),
  stream_kind: 'tcp',
  stream_no: facts.number % STREAMS_OF_LINK,
  target_addr: facts.address,
  target_host: facts.host,
  target_port: 1433,
});

const inputOf = (facts: StreamFacts, atMs: number): string =>
  JSON.stringify({
    action: 'stream',
    agent: {
      instance: '01a218f2-363a-7340-ba98-f07f50a34e47',
      labels: {},
      name: 'agent-1',
      version: '0.1.0',
    },
    connection: { id: '01a218f2-2fbb-745e-a8eb-48a32d77c62f', labels: {}, name: facts.connection },
    key: {
      auth_rule: facts.principal,
      claims: ['Send'],
      id: facts.keyId,
      kind: 'sas',
      principal: facts.principal,
      proved_by: 'relay',
      slot: 'primary',
    },
    link: { carrier: 'tcp', id: facts.linkId },
    listener: {
      auth_rule: 'defaultListener',
      claims: ['Listen'],
      id: 'k_884c591562b5b3be7a3a',
      kind: 'sas',
      principal: 'defaultListener',
      proved_by: 'relay',
      slot: 'primary',
    },
    managed: { require_proof: false },
    namespace: 'relay.example.com',
    relay: { node: 'relay-1' },
    source: {
      address: '203.0.113.7',
      claimed: { address: '10.9.8.7', port: 50_000 + (facts.number % 10_000) },
      gateway: 'gateway-1',
      gateway_proved: false,
    },
    stream: { attempt: 1, id: uuid(1, facts.number), kind: 'tcp' },
    target: { addresses: [facts.address], host: facts.host, port: 1433 },
    time: {
      local: { date: '2026-11-26', hour: 17, minute: 41, weekday: 'thu', zone: 'UTC' },
      rfc3339: new Date(atMs).toISOString(),
      unix_ms: atMs,
    },
    usage: { agent: { streams: 0 }, connection: { streams: 0 }, principal: { streams: 0 } },
    v: 1,
  });

const decisionOf = (facts: StreamFacts, atMs: number, sequence: number): string => {
  const allow = facts.number % DENIED_OF !== 0;
  return envelope({ id: uuid(4, facts.number), atMs }, 'stream.decision', subjectOf(facts), {
    allow,
    bundle: { revision: `r${sequence}`, sequence, sha256: sequence.toString(16).padStart(64, '0') },
    candidates: [{ address: facts.address, reasons: [], verdict: allow ? 'allowed' : 'denied' }],
    decided_by: 'policy',
    eval_us: 44 + (facts.number % 100),
    input: inputOf(facts, atMs),
    obligations: { recheck_seconds: 60 },
    ...(allow ? {} : { reason: 'policy_denied' }),
    reasons: allow ? [] : [{ args: {}, code: 'no_stream_rule' }],
    recheck_at: null,
    resolve_age_ms: 3,
    rule: allow ? `${facts.principal}-stream` : null,
    rules: { publish: ['publish'], stream: allow ? [`${facts.principal}-stream`] : [] },
    shadow: false,
  });
};

const closeOf = (facts: StreamFacts, atMs: number): string =>
  envelope({ id: uuid(5, facts.number), atMs }, 'stream.close', subjectOf(facts), {
    bytes_down: (facts.number * 6_151) % 1_000_000,
    bytes_up: (facts.number * 389) % 10_000,
    decision_id: uuid(4, facts.number),
    dial_ms: 1,
    duration_ms: 729,
    reason: 'client_fin',
    reason_number: 1,
  });

const linkClosed = (facts: StreamFacts, atMs: number, relay: boolean): string => {
  const place = { id: uuid(relay ? 6 : 7, facts.number), atMs, relay };
  const subject = { ...subjectOf(facts), stream_id: undefined, stream_no: undefined, target_host: undefined };
  const counts = { bytes_down: 90_000, bytes_up: 10_000, duration_ms: 5_000 };
  const data = { ...counts, carrier: 'tcp', node: 'relay-1', reason: 'gateway_lost' };
  return envelope(place, 'link.closed', subject, { ...data, side: relay ? 'relay' : 'agent' });
};

const changeOf = (facts: StreamFacts, atMs: number): string =>
  envelope(
    { id: uuid(8, facts.number), atMs, relay: true },
    'key.created',
    { actor: 't_1', connection: facts.connection, key_id: facts.keyId },
    { after: { key_id: facts.keyId, slot: 'primary', state: 'active' } },
  );

/** One chain: batches of events, stored with their seals at a time of their own. */
class ChainWriter {
  readonly #client: pg.Client;
  readonly #chain: string;
  #batch = 0;
  #seq = 0;
  #events: string[] = [];
  #firstMs = 0;

  constructor(client: pg.Client, chain: string) {
    this.#client = client;
    this.#chain = chain;
  }

  get count(): number {
    return this.#seq + this.#events.length;
  }

  async add(text: string, atMs: number): Promise<void> {
    if (this.#events.length === 0) this.#firstMs = atMs;
    this.#events.push(text);
    if (this.#events.length === BATCH_EVENTS) await this.flush(atMs);
  }

  async flush(atMs: number): Promise<void> {
    const events = this.#events;
    if (events.length === 0) return;
    this.#events = [];
    const first = this.#seq + 1;
    this.#seq += events.length;
    this.#batch += 1;
    const recordedAt = new Date(atMs).toISOString();
    await this.#client.query('select audit.store_events($1, $2, $3, 3, $4::text[]::bytea[])', [
      recordedAt,
      this.#chain,
      first,
      // As text, escaped as bytea: a backslash is doubled.
      events.map((text) => text.replaceAll('\\', '\\\\')),
    ]);
    await this.#client.query(
      `insert into audit.seal_leaves values ($1, $2, $3, decode(repeat('ab', 32 * $4::integer), 'hex'))`,
      [recordedAt, this.#chain, this.#batch, events.length],
    );
    await this.#client.query(
      `insert into audit.seal (
         chain_id, batch_no, first_seq, last_seq, event_count, dropped, root, seal, prev_seal, signer, signature,
         sealed_at, epoch, final, canonical, recorded_at, first_at, last_at)
       values ($2, $3::bigint, $4, $5, $6, 0, sha256(int8send($3::bigint)), sha256(int8send($3::bigint)),
         sha256(int8send($3::bigint - 1)), 's_0123456789abcdef0123', decode(repeat('cd', 64), 'hex'), $1, 1, false,
         decode(repeat('ef', 560), 'hex'), $1, $7, $1)`,
      [
        recordedAt,
        this.#chain,
        this.#batch,
        first,
        this.#seq,
        events.length,
        new Date(this.#firstMs).toISOString(),
      ],
    );
  }
}

const makePartitions = async (client: pg.Client, days: readonly string[]): Promise<void> => {
  for (const day of days) {
    const next = new Date(Date.parse(day) + DAY_MS).toISOString().slice(0, 10);
    for (const parent of ['event', 'seal_leaves']) {
      await client.query(
        `create table if not exists audit.${parent}_${day.replaceAll('-', '')} partition of audit.${parent}
         for values from ('${day} 00:00:00+00') to ('${next} 00:00:00+00')`,
      );
    }
  }
};

const addChain = (client: pg.Client, chain: string, kind: string, name: string, days: readonly string[]) =>
  client.query(
    `insert into audit.chain (chain_id, owner, origin_kind, origin_name, signer, epoch, opened_at, last_recorded_at,
       last_sealed_at, last_batch, last_seq, final, events, dropped, fork_alarms)
     values ($1, 'writer_1', $2, $3, 's_0123456789abcdef0123', 1, $4, $5::date + 1, $5::date + 1, 1, 1, false, 1, 0, 0)`,
    [chain, kind, name, days[0], days.at(-1)],
  );

/**
 * Fills an audit database with streams as an agent and a relay record them, evenly over the days, projected by the same
 * function as a writer's. The seals are of the right size and hold; their signatures do not.
 */
export const fillSizedStore = async (owner: string, options: SizedStoreOptions): Promise<SizedStore> => {
  const client = new pg.Client(owner);
  await client.connect();
  const lastMs = Date.parse(options.lastDay);
  const days = Array.from({ length: options.days }, (_, at) =>
    new Date(lastMs - (options.days - 1 - at) * DAY_MS).toISOString().slice(0, 10),
  );
  try {
    await makePartitions(client, days);
    await addChain(client, AGENT_CHAIN, 'agent', 'agent-1', days);
    await addChain(client, RELAY_CHAIN, 'relay', 'relay-1', days);
    const agent = new ChainWriter(client, AGENT_CHAIN);
    const relay = new ChainWriter(client, RELAY_CHAIN);
    const perDay = Math.ceil(options.streams / options.days);
    for (const [dayNo, day] of days.entries()) {
      const startMs = Date.parse(day);
      let atMs = startMs;
      for (let i = 0; i < perDay; i++) {
        const facts = factsOf(dayNo * perDay + i);
        atMs = startMs + Math.floor((i / perDay) * (DAY_MS - 2_000));
        await agent.add(decisionOf(facts, atMs, dayNo + 1), atMs);
        if (facts.number % DENIED_OF !== 0) await agent.add(closeOf(facts, atMs + 729), atMs + 729);
        if (facts.number % STREAMS_OF_LINK === STREAMS_OF_LINK - 1) {
          await agent.add(linkClosed(facts, atMs, false), atMs);
          await relay.add(linkClosed(facts, atMs, true), atMs);
        }
        if (facts.number % STREAMS_OF_CHANGE === 0) await relay.add(changeOf(facts, atMs), atMs);
      }
      // Batches end with their day, so that each day's events are in its own partition.
      await agent.flush(atMs + 1_000);
      await relay.flush(atMs + 1_000);
      options.onProgress?.(agent.count + relay.count);
    }
    await client.query('vacuum analyze');
    return { events: agent.count + relay.count, days };
  } finally {
    await client.end();
  }
};
