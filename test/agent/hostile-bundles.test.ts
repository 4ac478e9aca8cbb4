import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { agentConfigSchema } from '../../src/agent/index.ts';
import { keySigner, signBundle } from '../../src/policy/index.ts';
import { bomb, withEntry } from '../policy/hostile-archives.ts';
import { edit, makeKey } from '../policy/signing-support.ts';
import { rawBundle } from '../policy/support.ts';
import { eventually } from '../support/eventually.ts';
import { dial, readToEnd } from '../support/sockets.ts';
import { startEnds, statusOf, untilReady, writeBundle } from './ends-fixture.ts';
import { MemoryAudit } from './memory-audit.ts';

const DEADLINE = { timeout: 240_000 };
const KEY = makeKey('ES256');
const signer = keySigner(KEY.privatePem);
/** Of the bundle that is active while the others come. */
const ACTIVE = 5;

const echoTo = (socket: Socket): void => {
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('end', () => socket.end());
};

const withSequence = (bundle: Buffer, sequence: number): Promise<Buffer> =>
  edit(bundle, (files) => {
    const manifest = JSON.parse(files.get('.manifest')?.toString() ?? '{}') as object;
    const metadata = { sallyport: { input: 1, sequence } };
    files.set('.manifest', Buffer.from(JSON.stringify({ ...manifest, metadata })));
  });

const verdict = (condition: string): string => `publish := verdict
stream := verdict
verdict := {
	"allow": true, "rule": "mine", "rules": {"publish": ["mine"], "stream": ["mine"]},
	"reasons": [], "obligations": {}, "recheck_at": null,
} if {
	${condition}
}`;

/** Past the library: decisions of its own, signed as a good one is. */
const hostileRego = async (t: TestContext, rego: string, builtins = false): Promise<Buffer> =>
  signed(await rawBundle(t, rego, { capabilities: !builtins }), ACTIVE + 1);

const signed = async (bundle: Buffer, sequence: number): Promise<Buffer> =>
  signBundle(await withSequence(bundle, sequence), signer, undefined);

const startSigned = async (t: TestContext) => {
  const audit = new MemoryAudit();
  const ends = await startEnds(t, echoTo, { agent: { deps: { audit } } });
  const { agent, bundleFile, config } = ends.started;
  writeBundle(bundleFile, ends.target.port);
  const plain = readFileSync(bundleFile);
  const put = async (bytes: Buffer): Promise<void> => {
    writeFileSync(`${bundleFile}.new`, bytes);
    renameSync(`${bundleFile}.new`, bundleFile);
    await agent.reload(strict);
  };
  const keys = [{ id: 'test', algorithm: KEY.algorithm, public_key: KEY.publicPem }];
  const strict = agentConfigSchema.parse({
    ...config,
    policy: { ...config.policy, require_signed: true, keys },
  });
  await put(await signed(plain, ACTIVE));
  await untilReady(agent);
  await untilReady(ends.gateway);
  return { ...ends, agent, audit, plain, put };
};

const policyOf = async (agent: { readonly statusUrl: string }) =>
  (await statusOf(agent))['policy'] as {
    active: { sequence: number };
    rejected?: { code: string; message: string };
    engine: { errors: number };
  };

test(
  'every hostile bundle is refused: the one before serves on, row and status say why',
  DEADLINE,
  async (t) => {
    const { agent, audit, plain, put, listen } = await startSigned(t);
    const next = await signed(plain, ACTIVE + 1);
    const hostile: Readonly<Record<string, readonly [string, Buffer]>> = {
      unsigned: ['ERR_POLICY_UNSIGNED', await withSequence(plain, ACTIVE + 1)],
      'another key': [
        'ERR_POLICY_SIGNATURE',
        await signBundle(
          await withSequence(plain, ACTIVE + 1),
          keySigner(makeKey('ES256').privatePem),
          undefined,
        ),
      ],
      'an altered file': [
        'ERR_POLICY_SIGNATURE',
        await edit(next, (of) => void of.set('vectors.json', Buffer.from('[ ]'))),
      ],
      'an extra file': [
        'ERR_POLICY_SIGNATURE',
        await edit(next, (of) => void of.set('extra.rego', Buffer.from('package x'))),
      ],
      'a lower sequence': ['ERR_POLICY_SEQUENCE', await signed(plain, ACTIVE - 1)],
      'the same sequence over other content': [
        'ERR_POLICY_SEQUENCE',
        await signBundle(
          await edit(
            await withSequence(plain, ACTIVE),
            (of) => void of.set('more.rego', Buffer.from('package sallyport.x')),
          ),
          signer,
          undefined,
        ),
      ],
      'a climbing name': ['ERR_POLICY_ARCHIVE', withEntry(next, '../../etc/cron.d/x', '0')],
      'an absolute name': ['ERR_POLICY_ARCHIVE', withEntry(next, '/etc/cron.d/x', '0')],
      'a symbolic link': ['ERR_POLICY_ARCHIVE', withEntry(next, 'link', '2')],
      'a hard link': ['ERR_POLICY_ARCHIVE', withEntry(next, 'link', '1')],
      'ten gibibytes of zeroes': ['ERR_POLICY_ARCHIVE', bomb()],
      'a missing builtin': [
        'ERR_POLICY_BUILTIN',
        await hostileRego(
          t,
          verdict('http.send({"method": "get", "url": "http://evil.test"}).status_code == 200'),
          true,
        ),
      ],
      'endless work for every question': [
        'ERR_POLICY_CANARY',
        await hostileRego(
          t,
          verdict('n := numbers.range(1, 20000)\n\tsome a in n\n\tsome b in n\n\ta < b\n\tb < a'),
        ),
      ],
      'memory without end for every question': [
        'ERR_POLICY_CANARY',
        await hostileRego(
          t,
          verdict('count({[a, b] | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000)}) > 0'),
        ),
      ],
      'a throw for every question': [
        'ERR_POLICY_CANARY',
        await hostileRego(
          t,
          `${verdict('two == 1')}\n\ntwo := 1 if input.v == 1\n\ntwo := 2 if input.v == 1`,
        ),
      ],
      'an answer of another form': [
        'ERR_POLICY_CANARY',
        await hostileRego(t, 'publish := true\nstream := "yes"'),
      ],
    };
    const live = dial(t, listen);
    live.on('error', () => undefined);
    live.write('x');
    await once(live, 'data');
    for (const [what, [code, bytes]] of Object.entries(hostile)) {
      const from = audit.of('bundle.rejected').length;
      await put(bytes);
      const { active, rejected } = await policyOf(agent);
      assert.equal(rejected?.code, code, `${what}: ${rejected?.message ?? ''}`);
      assert.equal(active.sequence, ACTIVE, what);
      const rows = audit.of('bundle.rejected').slice(from);
      assert.deepEqual(
        rows.map(({ data }) => [data.reason, data.detail]),
        [[code, rejected.message]],
        what,
      );
      live.write('y');
      await once(live, 'data');
    }
    const end = dial(t, listen);
    end.end('new streams too');
    assert.equal((await readToEnd(end)).bytes.toString(), 'new streams too');
  },
);

test(
  'a bundle that throws at real streams only denies them, with an alarm in the trail',
  DEADLINE,
  async (t) => {
    const { agent, audit, put, listen } = await startSigned(t);
    const throws = 'some_one == 1 # for the streams of one connection, which no canary is of';
    const two =
      'some_one := 1\n\nsome_one := 2 if {\n\tinput.action == "stream"\n\tinput.connection.name == "db"\n}';
    await put(await hostileRego(t, `${verdict(throws)}\n\n${two}`));
    assert.equal((await policyOf(agent)).active.sequence, ACTIVE + 1, 'its canary cannot tell');
    await eventually('the alarm', async () => {
      assert.notEqual((await readToEnd(dial(t, listen))).how, 'fin');
      return audit.of('policy.error').some(({ data }) => data.code === 'repeated_failures')
        ? true
        : undefined;
    });
    const denied = audit.of('stream.decision').filter(({ data }) => data.reason === 'policy_error');
    assert.ok(denied.length >= 3);
    assert.ok((await policyOf(agent)).engine.errors >= 3);
  },
);
