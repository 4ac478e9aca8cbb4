import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { agentConfigSchema } from '../../src/agent/index.ts';
import { DEFAULT_BUNDLE_FILE, developmentBundle } from '../../src/policy/index.ts';
import { makeKey } from '../policy/signing-support.ts';
import { eventually } from '../support/eventually.ts';
import { giving, scriptedServer } from '../support/scripted-server.ts';
import { askOnce, dial, readToEnd } from '../support/sockets.ts';
import { CONNECTION, startEnds, statusOf, untilReady } from './ends-fixture.ts';

const policySchema = agentConfigSchema.shape.policy;
const MAX_AGE_SECONDS = 3;

interface Source {
  readonly kind: string;
  readonly url: string;
  readonly etag: string | null;
  readonly last_success: string | null;
  readonly last_error: string | null;
  readonly age_seconds: number | null;
  readonly stale: boolean;
}

test('an agent whose bundle server falls silent denies, cuts, says so, and opens again by itself', async (t) => {
  const server = await scriptedServer(t);
  const policy = policySchema.parse({
    bundle_url: `${server.url}?sig=secret`,
    bundle_service: { min_delay_seconds: 0.02, max_delay_seconds: 0.04 },
    max_bundle_age_seconds: MAX_AGE_SECONDS,
    require_signed: false,
  });
  const { target, started, gateway, listen } = await startEnds(t, (socket) => void socket.pipe(socket), {
    agent: { bundle: 'none', config: { policy } },
  });
  const { agent, config } = started;
  const notReady = await (await fetch(`${agent.statusUrl}/readyz`)).text();
  assert.match(notReady, /no policy bundle is active: the server answers 503/);
  const bundle = developmentBundle(readFileSync(DEFAULT_BUNDLE_FILE), [
    { name: CONNECTION, host: '127.0.0.1', port: target.port },
  ]);
  server.answer(giving(bundle, '"one"'));
  await untilReady(agent);
  await untilReady(gateway);
  assert.equal(await askOnce(t, listen, 'by the server'), 'by the server');
  const sourceOf = async (): Promise<Source> =>
    ((await statusOf(agent))['policy'] as { source: Source }).source;
  const source = await sourceOf();
  assert.deepEqual(
    [source.kind, source.url, source.etag, source.last_error, source.stale],
    ['url', server.url, '"one"', null, false],
    'without the query, which holds a secret',
  );
  assert.ok(source.last_success !== null && source.age_seconds !== null);
  const metrics = (await (await fetch(`${agent.statusUrl}/metrics`)).text()).split('\n');
  assert.ok(metrics.some((line) => line.startsWith('sallyport_bundle_age_seconds{')));
  assert.ok(
    metrics.some((line) => /^sallyport_bundle_fetches_total\{.*result="activated".*\} 1$/.test(line)),
  );

  const live = dial(t, listen);
  live.write('x');
  await new Promise((resolve) => live.once('data', resolve));
  server.answer((_request, response) => response.writeHead(503).end());
  const end = await readToEnd(live);
  assert.notEqual(end.how, 'fin', 'a live stream is cut');
  const ready = await fetch(`${agent.statusUrl}/readyz`);
  assert.equal(ready.status, 503);
  assert.match(
    await ready.text(),
    /source of the policy bundle is silent for \d+ s, the limit is 3 s: the server answers 503/,
  );
  assert.equal((await sourceOf()).stale, true);
  const journal = config.audit.jsonl_dir ?? '';
  await eventually('the trail has it', () => {
    const lines = readdirSync(journal).map((name) => readFileSync(join(journal, name), 'utf8'));
    return lines.some((text) => text.includes('bundle_stale')) ? true : undefined;
  });
  const asked = target.sockets.length;
  const refused = await readToEnd(dial(t, listen));
  assert.notEqual(refused.how, 'fin');
  assert.equal(target.sockets.length, asked, 'nothing is dialled');

  server.answer(giving(bundle, '"one"'));
  await untilReady(agent);
  assert.equal(await eventually('a stream works', () => askOnce(t, listen, 'again')), 'again');
});

test('agent.yaml: what of the bundle source does not go together is an error', () => {
  const key = makeKey('ES256');
  const keys = [{ id: 'a', algorithm: 'ES256', public_key: key.publicPem }];
  const problems = (policy: object): string =>
    (policySchema.safeParse({ keys, ...policy }).error?.issues ?? [])
      .map(({ path, message }) => `${path.join('.')}: ${message}`)
      .join('\n');
  assert.equal(problems({ bundle_url: 'https://bundles.example.com/p.tar.gz?x=1' }), '');
  assert.equal(problems({ bundle_url: 'http://127.0.0.1:8080/p.tar.gz' }), '');
  assert.equal(problems({ bundle_file: 'b' }), '');
  for (const url of ['http://bundles.example.com/p', 'https://u:p@h/p', 'https://h/p#f', 'file:///p', 'p']) {
    assert.match(problems({ bundle_url: url }), /^bundle_url: an https address/, url);
  }
  const url = 'https://h/p';
  assert.match(problems({}), /bundle_file: give either bundle_file or bundle_url/);
  assert.match(problems({ bundle_file: 'b', bundle_url: url }), /give either/);
  assert.match(problems({ bundle_file: 'b', max_bundle_age_seconds: 60 }), /is for bundle_url/);
  assert.match(problems({ bundle_file: 'b', keys: [] }), /keys: require_signed is set/);
  assert.equal(problems({ bundle_file: 'b', keys: [], require_signed: false }), '');
  assert.match(problems({ bundle_file: 'b', keys: [...keys, ...keys] }), /own id/);
  const other = [{ id: 'a', algorithm: 'RS256', public_key: key.publicPem }];
  assert.match(
    problems({ bundle_file: 'b', keys: other }),
    /keys\.0\.public_key: public key 'a' signs ES256/,
  );
  const service = (bundle_service: object): string => problems({ bundle_url: url, bundle_service });
  assert.match(service({ client_cert_file: 'c' }), /go together/);
  assert.match(service({ min_delay_seconds: 61 }), /min_delay_seconds is over/);
  assert.match(service({ long_poll_seconds: 601 }), /long_poll_seconds/);
});
