import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import pg from 'pg';
import { eventually } from '../support/eventually.ts';
import { startPostgres } from '../support/postgres.ts';
import { dial, echo, readToEnd } from '../support/sockets.ts';
import { startUp, type Up } from '../support/up.ts';

const APPLICATIONS = 100;
const BYTES_EACH = 64 * 1024;
const SHORT_REQUESTS = 2_000;
/** Short requests at a time. */
const LANES = 20;
const SHORT_BYTES = 16;
const POOL = 20;
const QUERIES = 2_000;
/** One row of 32 MB, made of numbers so that any piece of it has one place. */
const LARGE = `string_agg(md5(i::text), '' order by i)`;
const LARGE_ROWS = 1_000_000;
const MD5_TEXT_BYTES = 32;

interface Trail {
  readonly streams: number;
  readonly ended: number;
  readonly up: number;
  readonly down: number;
  readonly reasons: readonly string[];
}

/** All of the connection's streams once each has its end, and no event of them beside one decision and one end. */
const trailOf = async (up: Up, connection: string, streams: number): Promise<Trail> => {
  await eventually(`${streams} ends of ${connection} are in the trail`, async () => {
    const sql = `select count(*)::int as ends from audit.event where type = 'stream.close' and origin like 'agent/%' and connection = $1`;
    const [row] = await up.rows<{ ends: number }>(sql, [connection]);
    return (row?.ends ?? 0) >= streams ? true : undefined;
  });
  const events = await up.rows<{ stream_id: string; types: string[] }>(
    `select stream_id, array_agg(type order by type) as types from audit.event
       where origin like 'agent/%' and connection = $1 and stream_id is not null group by 1`,
    [connection],
  );
  assert.equal(events.length, streams, connection);
  for (const { stream_id, types } of events)
    assert.deepEqual(types, ['stream.close', 'stream.decision'], `${connection} ${stream_id}`);
  const [trail] = await up.rows<Trail>(
    `select count(*)::int as streams, count(closed_at)::int as ended, sum(bytes_up)::float8 as up,
       sum(bytes_down)::float8 as down, array_agg(distinct close_reason) as reasons
     from audit.streams where connection = $1`,
    [connection],
  );
  assert.ok(trail);
  return trail;
};

/** Sends the bytes, ends, and tells whether they came back before the other side's end. */
const isEchoed = async (t: TestContext, address: string, bytes: Buffer): Promise<boolean> => {
  const socket = dial(t, address);
  const end = readToEnd(socket, 120_000);
  socket.end(bytes);
  const { bytes: back, how } = await end;
  return how === 'fin' && back.equals(bytes);
};

/** Why streams of a connection became none, or ended otherwise than by their client. */
const mishaps = (up: Up, connection: string): Promise<object[]> =>
  up.rows(
    `select type, action, reasons, close_reason, eval_us, count(*)::int from audit.event
     where connection = $1 and (action = 'denied' or type = 'stream.refused' or close_reason <> 'client_fin') group by 1, 2, 3, 4, 5`,
    [connection],
  );

test('many applications share one connection, and the trail has every one of their streams', async (t) => {
  const target = await echo(t);
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const up = await startUp(t, {
    publish: {
      shared: `127.0.0.1:${target.port}`,
      short: `127.0.0.1:${target.port}`,
      database: `127.0.0.1:${postgres.port}`,
    },
  });

  await t.test('100 at once, each with data of its own', async () => {
    const address = up.listenOf('shared');
    const sockets = await Promise.all(
      Array.from({ length: APPLICATIONS }, async () => {
        const socket = dial(t, address);
        const first = randomBytes(1);
        socket.write(first);
        const [back] = (await once(socket, 'data')) as [Buffer];
        assert.deepEqual(back, first);
        return socket;
      }),
    );
    assert.equal(target.sockets.filter(({ destroyed }) => !destroyed).length, APPLICATIONS, 'all at once');
    const all = await Promise.all(
      sockets.map(async (socket) => {
        const sent = randomBytes(BYTES_EACH);
        const end = readToEnd(socket, 120_000);
        // In pieces, so that those of all are between one another.
        for (let at = 0; at < BYTES_EACH; at += 4_096) {
          if (!socket.write(sent.subarray(at, at + 4_096))) await once(socket, 'drain');
        }
        socket.end();
        const { bytes, how } = await end;
        return how === 'fin' && bytes.equals(sent);
      }),
    );
    assert.equal(all.filter(Boolean).length, APPLICATIONS);
    const bytes = APPLICATIONS * (BYTES_EACH + 1);
    assert.deepEqual(await trailOf(up, 'shared', APPLICATIONS), {
      streams: APPLICATIONS,
      ended: APPLICATIONS,
      up: bytes,
      down: bytes,
      reasons: ['client_fin'],
    });
  });

  await t.test('thousands of short requests, each a stream', async (t) => {
    let left = SHORT_REQUESTS;
    let lost = 0;
    const lane = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        if (!(await isEchoed(t, up.listenOf('short'), randomBytes(SHORT_BYTES)))) lost += 1;
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    if (lost > 0) {
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      assert.fail(`${lost} requests came to nothing: ${JSON.stringify(await mishaps(up, 'short'))}`);
    }
    const bytes = SHORT_REQUESTS * SHORT_BYTES;
    assert.deepEqual(await trailOf(up, 'short', SHORT_REQUESTS), {
      streams: SHORT_REQUESTS,
      ended: SHORT_REQUESTS,
      up: bytes,
      down: bytes,
      reasons: ['client_fin'],
    });
  });

  await t.test('a pool that keeps its connections, and a result of 32 MB', async () => {
    const url = new URL(postgres.url);
    url.port = up.listenOf('database').split(':').at(-1) ?? '';
    const pool = new pg.Pool({ connectionString: url.href, max: POOL });
    // All of the pool's connections first: then the number of streams is exact.
    const clients = await Promise.all(Array.from({ length: POOL }, () => pool.connect()));
    const backends = await Promise.all(
      clients.map(
        async (client) => (await client.query('select pg_backend_pid() as pid')).rows[0] as unknown,
      ),
    );
    assert.equal(new Set(backends.map((row) => JSON.stringify(row))).size, POOL);
    for (const client of clients) client.release();
    const answers = await Promise.all(
      Array.from({ length: QUERIES }, async (_, at) => {
        const { rows } = await pool.query('select $1::int as at', [at]);
        return (rows as { at: number }[])[0]?.at;
      }),
    );
    assert.ok(answers.every((answer, at) => answer === at));

    const large = await pool.query(`select ${LARGE} as large from generate_series(1, ${LARGE_ROWS}) as i`);
    const text = (large.rows as { large: string }[])[0]?.large ?? '';
    assert.equal(text.length, LARGE_ROWS * MD5_TEXT_BYTES);
    const direct = new pg.Client({ connectionString: postgres.url });
    await direct.connect();
    const expected = await direct.query(
      `select encode(sha256(${LARGE}::bytea), 'hex') as digest from generate_series(1, ${LARGE_ROWS}) as i`,
    );
    await direct.end();
    const digest = createHash('sha256').update(text).digest('hex');
    assert.deepEqual(expected.rows, [{ digest }]);
    await pool.end();

    const { streams, ended, down } = await trailOf(up, 'database', POOL);
    assert.deepEqual({ streams, ended }, { streams: POOL, ended: POOL });
    assert.ok(down > text.length);
  });
});
