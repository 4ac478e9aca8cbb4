import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import request, { type Response } from 'supertest';
import type { AuditEventInput } from '../../src/audit/index.ts';
import { COALESCE_MS } from '../../src/audit/index.ts';
import { ADDRESS_FAILURE_BURST, FAILURE_BURST } from '../../src/control/api/authentication.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { controlFixture, liveStateOf, sql } from './control-fixture.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

/** A listener with an owner token, whose clock stands still and whose events are kept. */
const fixture = async (t: TestContext) => {
  const clock = new ManualClock();
  const { control, ownerUrl } = await controlFixture(t, postgres, { clock });
  const events: AuditEventInput[] = [];
  const server = await control.createManagementServer({
    listen: '127.0.0.1:0',
    live: liveStateOf(),
    version: '0.0.0',
    audit: { note: (event) => void events.push(event) },
  });
  t.after(() => server.close());
  const { token } = await control.ensureOwnerToken('test');
  const as = async (credential: string, path = '/connections', method: 'get' | 'post' = 'get') =>
    request(server.url)[method](`/api/v1${path}`).set('Authorization', credential);
  return { clock, control, ownerUrl, events, token, as, close: () => server.close() };
};

const guess = (id: string): string => `Bearer ${id}.${'x'.repeat(43)}`;
const codeOf = (response: Response): string => (response.body as { code: string }).code;
const dataOf = (events: readonly AuditEventInput[]) =>
  events.map((event) => {
    assert.equal(event.type, 'auth.failed');
    const { code, claimed_token_id: claimed, count } = event.data as Record<string, unknown>;
    return { code, claimed, count };
  });

test('failures with one token id get 429 with Retry-After, and its real holder is never refused', async (t) => {
  const { token, as, clock } = await fixture(t);
  const id = token.split('.')[0] ?? '';
  for (let n = 0; n < FAILURE_BURST; n += 1) assert.equal((await as(guess(id))).status, 401);
  const refused = await as(guess(id));
  assert.equal(refused.status, 429);
  assert.match(refused.headers['content-type'] ?? '', /^application\/problem\+json/);
  assert.equal(refused.headers['retry-after'], '5');
  assert.deepEqual(refused.body, {
    type: 'urn:sallyport:problem:too_many_failures',
    title: 'Too many requests',
    status: 429,
    code: 'too_many_failures',
    detail: 'too many failed authentications',
  });
  assert.equal((await as(`Bearer ${token}`)).status, 200, 'the valid token of the same id and address');
  clock.advance(5_000);
  assert.equal((await as(guess(id))).status, 401, 'refilled');
});

test('a new id for each guess is no way around, and valid tokens pass all the same', async (t) => {
  const { token, as } = await fixture(t);
  const statuses = new Set<number>();
  for (let n = 0; n < ADDRESS_FAILURE_BURST; n += 1)
    statuses.add((await as(guess(`t_${n.toString(16).padStart(16, '0')}`))).status);
  assert.deepEqual([...statuses], [401]);
  assert.equal((await as(guess('t_ffffffffffffffff'))).status, 429);
  assert.equal((await as('')).status, 429, 'without a credential too');
  assert.equal((await as(`Bearer ${token}`)).status, 200);
});

test('failures are recorded as auth.failed: the first at once, the rest of 10 s as a count, no secret', async (t) => {
  const { events, as, clock, close } = await fixture(t);
  const attempts = FAILURE_BURST + 3;
  for (let n = 0; n < attempts; n += 1) await as(guess('t_00000000000000aa'));
  await as('Basic abc');
  const first = { code: 'token_invalid', claimed: 't_00000000000000aa', count: 1 };
  const missing = { code: 'token_missing', claimed: undefined, count: 1 };
  assert.deepEqual(dataOf(events), [first, missing]);
  assert.deepEqual(events[0]?.subject, {
    namespace: 'relay.example.com',
    relay: 'node-1',
    connection: undefined,
    source_addr: '127.0.0.1',
  });
  clock.advance(COALESCE_MS);
  assert.deepEqual(dataOf(events).slice(2), [{ ...first, count: attempts - 1 }]);
  await as(guess('t_00000000000000aa'));
  await as(guess('t_00000000000000aa'));
  await close();
  assert.deepEqual(dataOf(events).slice(3), [first, first], 'a closing listener loses no count');
  assert.ok(!JSON.stringify(events).includes('x'.repeat(43)));
});

test('a one-time code is exchanged once, by one of many, and opens nothing else', async (t) => {
  const { control, ownerUrl, as } = await fixture(t);
  const { code, id } = await control.ensureOwnerCode();
  const bearer = `Bearer ${code}`;
  for (const [path, method] of [
    ['/connections', 'get'],
    ['/tokens', 'get'],
    ['/openapi.json', 'get'],
    ['/tokens', 'post'],
  ] as const) {
    const refused = await as(bearer, path, method);
    assert.deepEqual([refused.status, codeOf(refused)], [403, 'code_not_exchanged'], path);
  }
  const tries = await Promise.all([1, 2, 3, 4].map(() => as(bearer, '/tokens/exchange', 'post')));
  const won = tries.filter((response) => response.status === 201);
  assert.equal(won.length, 1);
  assert.ok(tries.every((response) => [201, 401].includes(response.status)));
  const made = won[0]?.body as { token: string; role: string; created_by: string; one_time: boolean };
  assert.deepEqual([made.role, made.created_by, made.one_time], ['owner', id, false]);
  assert.equal((await as(`Bearer ${made.token}`, '/tokens')).status, 200);
  assert.equal((await as(bearer, '/tokens/exchange', 'post')).status, 401, 'used');
  const again = await as(`Bearer ${made.token}`, '/tokens/exchange', 'post');
  assert.deepEqual([again.status, codeOf(again)], [409, 'conflict']);
  assert.equal((await as(`Bearer ${made.token}`, '/tokens')).status, 200, 'and the token lives on');
  const recorded = await sql(
    ownerUrl,
    `select event #>> '{data,action}' as action, event #>> '{subject,actor}' as actor from control.outbox
      where event #>> '{data,detail,token_id}' = $1 order by id`,
    [id],
  );
  assert.deepEqual(recorded, [
    { action: 'token.created', actor: 'system' },
    { action: 'code.exchanged', actor: id },
  ]);
});

test('a code expires, and a newer one ends it', async (t) => {
  const { control, ownerUrl, as } = await fixture(t);
  const old = await control.ensureOwnerCode();
  assert.ok(old.expiresAt.getTime() - Date.now() <= 24 * 3_600_000);
  const fresh = await control.ensureOwnerCode();
  assert.equal((await as(`Bearer ${old.code}`, '/tokens/exchange', 'post')).status, 401);
  await sql(ownerUrl, `update control.token set expires_at = now() where id = $1`, [fresh.id]);
  assert.equal((await as(`Bearer ${fresh.code}`, '/tokens/exchange', 'post')).status, 401);
});

test('no operation answers without a valid token', async (t) => {
  const { as, token, clock } = await fixture(t);
  const document = (await as(`Bearer ${token}`, '/openapi.json')).body as {
    paths: Record<string, Record<string, unknown>>;
  };
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => [method, path] as const),
  );
  assert.ok(operations.length > 20);
  for (const [method, path] of operations)
    for (const credential of ['', guess('t_0000000000000000'), token, 'Bearer x']) {
      clock.advance(60_000);
      const answer = await as(credential, path.replaceAll(/[{}]/g, ''), method as 'get');
      assert.equal(answer.status, 401, `${method} ${path} with ${credential.slice(0, 8)}`);
    }
});
