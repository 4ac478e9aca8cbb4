import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANSWER_KEPT_MS, MAX_ADDRESSES, Resolver } from '../../src/agent/resolver.ts';
import { ManualClock } from '../support/manual-clock.ts';

test('one look-up per name is in flight, and its answer is kept for five seconds with its age', async () => {
  const clock = new ManualClock();
  let asked = 0;
  const resolver = new Resolver(clock, () => {
    asked += 1;
    return Promise.resolve([`10.0.0.${asked}`]);
  });
  const [first, second] = await Promise.all([resolver.resolve('db.test'), resolver.resolve('db.test')]);
  assert.deepEqual(first, { ok: true, addresses: ['10.0.0.1'], ageMs: 0 });
  assert.deepEqual(second, first);
  clock.advance(ANSWER_KEPT_MS);
  assert.deepEqual(await resolver.resolve('db.test'), {
    ok: true,
    addresses: ['10.0.0.1'],
    ageMs: ANSWER_KEPT_MS,
  });
  clock.advance(1);
  assert.deepEqual(await resolver.resolve('db.test'), { ok: true, addresses: ['10.0.0.2'], ageMs: 0 });
  assert.equal(asked, 2);
});

test('addresses are normalised, each there once, eight at most', async () => {
  const answers = ['::ffff:10.0.0.1', '10.0.0.1', 'fe80::1%eth0'];
  for (let index = 0; index < 20; index += 1) answers.push(`10.1.0.${index}`);
  const resolver = new Resolver(new ManualClock(), () => Promise.resolve(answers));
  const resolution = await resolver.resolve('db.test');
  assert.ok(resolution.ok);
  assert.deepEqual(resolution.addresses.slice(0, 3), ['10.0.0.1', 'fe80::1', '10.1.0.0']);
  assert.equal(resolution.addresses.length, MAX_ADDRESSES);
});

test('an address literal asks nobody', async () => {
  const resolver = new Resolver(new ManualClock(), () => assert.fail('asked'));
  assert.deepEqual(await resolver.resolve('::ffff:192.0.2.1'), {
    ok: true,
    addresses: ['192.0.2.1'],
    ageMs: 0,
  });
});

test('a failed look-up is a value, and the next asks again', async () => {
  let asked = 0;
  const resolver = new Resolver(new ManualClock(), () => {
    asked += 1;
    return asked === 1 ? Promise.reject(new Error('no such name')) : Promise.resolve(['10.0.0.1']);
  });
  assert.deepEqual(await resolver.resolve('db.test'), { ok: false, detail: 'no such name' });
  assert.equal((await resolver.resolve('db.test')).ok, true);
});
