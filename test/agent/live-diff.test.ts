import assert from 'node:assert/strict';
import { existsSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { ALWAYS_CLOSED } from '../../src/agent/close-review.ts';
import { askAgent, takeAnswer } from '../../src/agent/index.ts';
import { answerPath, QUESTION_FILE } from '../../src/agent/question.ts';
import { isAppError, systemClock } from '../../src/runtime/index.ts';
import { makeKey } from '../policy/signing-support.ts';
import { sallyport } from '../support/command.ts';
import { eventually } from '../support/eventually.ts';
import { dial } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { CONNECTION, startEnds, statusOf, writeBundle } from './ends-fixture.ts';

interface Preview {
  readonly would_close: number;
  readonly live: number;
  readonly would_hold: boolean;
  readonly is_active: boolean;
  readonly not_activatable: string | null;
  readonly reasons: Record<string, number>;
  readonly would_unpublish: number;
  readonly streams: Record<string, unknown>[];
  readonly publications: Record<string, unknown>[];
}

test('policy diff --live says what an activation would end, and ends nothing', async (t) => {
  const { target, started, listen } = await startEnds(t, (socket) => void socket.pipe(socket));
  const { agent, config, bundleFile } = started;
  const directory = temporaryDirectory(t);
  const file = join(directory, 'agent.yaml');
  writeFileSync(file, stringify({ ...config, status: { listen: new URL(agent.statusUrl).host } }));
  const diff = (bundle: string) => sallyport(['--json', 'policy', 'diff', bundle, '--live', '-c', file]);
  const echoed = async (socket: Socket, text: string): Promise<void> => {
    socket.write(text);
    assert.equal(String(await new Promise((resolve) => socket.once('data', resolve))), text);
  };
  const live = Array.from({ length: ALWAYS_CLOSED + 1 }, () => dial(t, listen));
  // At the end of the test they are reset.
  for (const socket of live) socket.on('error', () => undefined);
  await Promise.all(live.map((socket) => echoed(socket, 'before')));
  const active = (await statusOf(agent))['policy'] as { active: { sha256: string; generation: number } };

  // the active bundle ends nothing
  {
    const same = await diff(bundleFile);
    assert.equal(same.code, 0, same.stderr);
    const preview = JSON.parse(same.stdout) as Preview;
    assert.deepEqual(
      [preview.is_active, preview.live, preview.would_close, preview.would_hold, preview.would_unpublish],
      [true, live.length, 0, false, 0],
    );
  }

  const next = join(directory, 'next.tar.gz');
  writeBundle(next, target.port, { sequence: 1_000, forbidden: [CONNECTION] });
  // streams, publications, reasons; whether it would be held
  {
    const ran = await diff(next);
    assert.equal(ran.code, 1, ran.stderr);
    const preview = JSON.parse(ran.stdout) as Preview;
    assert.deepEqual(
      [preview.live, preview.would_close, preview.would_hold, preview.not_activatable],
      [live.length, live.length, true, null],
    );
    assert.deepEqual(Object.values(preview.reasons), [live.length]);
    assert.equal(preview.streams.length, live.length);
    const [stream] = preview.streams;
    assert.ok(stream);
    assert.equal(stream['connection'], CONNECTION);
    assert.equal(stream['target'], `127.0.0.1:${target.port}`);
    assert.equal(stream['rule'], 'development-stream');
    assert.equal(typeof stream['principal'], 'string');
    assert.ok(Object.hasOwn(preview.reasons, String(stream['reason'])));
    assert.ok(Date.parse(String(stream['opened_at'])) > 0);
    assert.equal(preview.would_unpublish, preview.publications.length);
    const people = await sallyport(['policy', 'diff', next, '--live', '-c', file]);
    assert.match(people.stdout, /would close 11 of 11 live streams; it would be held for policy activate/);
  }

  // a lower sequence is previewed and said
  {
    const low = join(directory, 'low.tar.gz');
    writeBundle(low, target.port, { sequence: 1, forbidden: [CONNECTION] });
    const preview = JSON.parse((await diff(low)).stdout) as Preview;
    assert.equal(preview.would_close, live.length);
    assert.match(String(preview.not_activatable), /sequence 1 /);
  }

  // what no agent would activate is refused with its code
  {
    const broken = join(directory, 'broken.tar.gz');
    writeFileSync(broken, 'no archive');
    const ran = await diff(broken);
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, /ERR_POLICY_ARCHIVE/);
  }

  // nothing was activated, cut or left behind
  {
    const after = (await statusOf(agent))['policy'] as typeof active;
    assert.deepEqual(after.active, active.active);
    await Promise.all(live.map((socket) => echoed(socket, 'still')));
    const left = readdirSync(config.state_dir).filter((name) => /question|answer/.test(name));
    assert.deepEqual(left, []);
  }

  // one question at a time; a stale one is ignored, removed and makes way
  {
    const question = join(config.state_dir, QUESTION_FILE);
    const id = askAgent(config.state_dir, { what: 'shadow_stop' }, systemClock);
    assert.equal(statSync(question).mode & 0o777, 0o600);
    assert.throws(
      () => askAgent(config.state_dir, { what: 'preview' }, systemClock),
      (error) => isAppError(error, 'ERR_AGENT_ASKED'),
    );
    const answer = answerPath(config.state_dir, id);
    await eventually('the answer is there', () => (existsSync(answer) ? true : undefined));
    assert.equal(statSync(answer).mode & 0o777, 0o600);
    const answered = await eventually(
      'answered',
      () => takeAnswer(config.state_dir, id) as { stopped: boolean } | undefined,
    );
    assert.equal(answered.stopped, false);
    const old = { ...systemClock, nowMs: () => systemClock.nowMs() - 3_600_000 };
    await eventually('it is taken away', () => (existsSync(question) ? undefined : true));
    const stale = askAgent(config.state_dir, { what: 'shadow_stop' }, old);
    await eventually('it is taken away', () => (existsSync(question) ? undefined : true));
    assert.equal(takeAnswer(config.state_dir, stale), undefined);
    // One that no agent took away, of an hour ago.
    writeFileSync(question, 'left by nobody');
    utimesSync(question, 1, 1);
    askAgent(config.state_dir, { what: 'shadow_stop' }, systemClock);
  }

  // usage
  {
    const both = await sallyport(['policy', 'diff', next, next, '--live', '-c', file]);
    assert.equal(both.code, 2, both.stderr);
    assert.equal((await sallyport(['policy', 'diff', next, '--live'])).code, 2);
    assert.match((await sallyport(['policy', 'diff', next])).stderr, /--live -c agent.yaml/);
  }

  // an unsigned one, where signatures count: another exit code than "would end something", and what to do
  {
    const key = makeKey('ES256');
    const keys = [{ id: 'k', algorithm: 'ES256' as const, public_key: key.publicPem }];
    await agent.reload({ ...config, policy: { ...config.policy, require_signed: true, keys } });
    const ran = await sallyport(['policy', 'diff', next, '--live', '-c', file]);
    assert.equal(ran.code, 2, ran.stderr);
    assert.match(ran.stderr, /not signed; sign it first: `sallyport policy sign .*ERR_POLICY_UNSIGNED/);
  }
});
