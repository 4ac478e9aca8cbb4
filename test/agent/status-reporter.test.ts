import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, RequestListener } from 'node:http';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { agentConfigSchema } from '../../src/agent/index.ts';
import { reportUrl, StatusReporter, type StatusReporterDeps } from '../../src/agent/status-reporter.ts';
import { statusReport, type StatusReport } from '../../src/agent/status-report.ts';
import { readArchive, writeArchive } from '../../src/policy/bundle/archive.ts';
import { DEFAULT_BUNDLE_FILE, developmentBundle } from '../../src/policy/index.ts';
import { type Logger, silentLogger, systemClock } from '../../src/runtime/index.ts';
import { openHost, scratch, testOpa } from '../policy/support.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { giving, scriptedServer } from '../support/scripted-server.ts';
import { askOnce } from '../support/sockets.ts';
import { CONNECTION, startEnds, statusOf, untilReady } from './ends-fixture.ts';

const policySchema = agentConfigSchema.shape.policy;
type Service = NonNullable<ReturnType<StatusReporterDeps['service']>>;
/** The first report of an OPA has no bundles yet. */
type Body = Omit<StatusReport, 'bundles'> & Partial<Pick<StatusReport, 'bundles'>>;
interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Body;
}

const bundle = (sequence: number, port = 9): Buffer =>
  developmentBundle(readFileSync(DEFAULT_BUNDLE_FILE), [{ name: CONNECTION, host: '127.0.0.1', port }], {
    sequence,
  });

/** A server of both APIs: keeps the reports that it takes, and gives what `bundles` says. */
const controlServer = async (t: TestContext) => {
  const server = await scriptedServer(t);
  const reports: Received[] = [];
  let take: RequestListener = (_request, response) => response.writeHead(200).end('{}');
  let bundles: RequestListener = (_request, response) => response.writeHead(503).end();
  server.answer((request, response) => {
    const { url: path = '', method = '', headers } = request;
    if (!path.startsWith('/status')) {
      bundles(request, response);
      return;
    }
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      reports.push({ method, path, headers, body: JSON.parse(Buffer.concat(parts).toString()) as Body });
      take(request, response);
    });
  });
  return {
    bundleUrl: server.url,
    url: new URL(server.url).origin,
    reports,
    take: (next: RequestListener) => (take = next),
    give: (next: RequestListener) => (bundles = next),
  };
};

const bundleOf = (received: Received | undefined): Record<string, unknown> =>
  received?.body.bundles?.['sallyport'] ?? {};

const serviceOf = (status_service: object): Service => {
  const parsed = policySchema.parse({ bundle_file: 'b', require_signed: false, status_service });
  assert.ok(parsed.status_service !== undefined);
  return parsed.status_service;
};

/** Long enough for a busy machine; what waits for a silent server shortens it. */
const limitsOfTest = () => ({ silenceMs: 60_000, totalMs: 120_000, gapMs: 5 });

/** A reporter of a host with a bundle, with pauses as short as a test wants them. */
const openReporter = async (
  t: TestContext,
  service: () => Service | undefined,
  logger: Logger = silentLogger,
  limits = limitsOfTest(),
) => {
  const file = join(scratch(t), 'bundle.tar.gz');
  writeFileSync(file, bundle(1));
  const host = await openHost(t, undefined, { source: { file } });
  const results: string[] = [];
  const reporter = new StatusReporter({
    service,
    report: ({ bundle_name: bundleName }) =>
      statusReport({
        namespace: 'ns',
        agent: { name: 'a1', instance: 'i1', labels: { site: 'north', id: 'mine' }, version: '1.2.3' },
        bundleName,
        policy: host.status(),
        sizeBytes: host.active?.bytes.length,
        source: undefined,
      }),
    clock: systemClock,
    logger,
    onReported: (result) => results.push(result),
    limits,
  });
  host.onActivated(() => reporter.look());
  host.onRejected(() => reporter.look());
  t.after(() => reporter.close());
  reporter.start();
  return { host, file, reporter, results };
};

test('a report is sent at the start, when the bundle changes or is refused, and not when nothing is new', async (t) => {
  const server = await controlServer(t);
  const token = join(scratch(t), 'token');
  writeFileSync(token, 'secret-1\n');
  const service = serviceOf({ url: `${server.url}/opa/`, partition: 'north', token_file: token });
  assert.equal(reportUrl(service).pathname, '/opa/status/north');
  const { host, file, reporter } = await openReporter(t, () => ({ ...service, url: server.url }));
  const first = await eventually('the first', () => server.reports[0]);
  assert.deepEqual(
    [first.method, first.path, first.headers['content-type'], first.headers.authorization],
    ['POST', '/status/north', 'application/json', 'Bearer secret-1'],
  );
  assert.deepEqual(first.body.labels, {
    site: 'north',
    namespace: 'ns',
    agent: 'a1',
    id: 'i1',
    version: '1.2.3',
  });
  assert.deepEqual(first.body.plugins, { bundle: { state: 'OK' }, status: { state: 'OK' } });
  const { active_revision: revision, size, code } = bundleOf(first);
  assert.deepEqual([revision, size, code], [host.active?.revision, bundle(1).length, undefined]);
  for (let times = 0; times < 20; times += 1) reporter.look();
  writeFileSync(file, bundle(2));
  await host.reload();
  const second = await eventually('the second', () => server.reports[1]);
  assert.notEqual(
    bundleOf(second)['last_successful_activation'],
    bundleOf(first)['last_successful_activation'],
  );
  writeFileSync(file, 'garbage');
  await host.reload();
  const third = bundleOf(await eventually('the third', () => server.reports[2]));
  assert.equal(third['code'], 'bundle_error');
  assert.match(String(third['message']), /does not expand/);
  assert.deepEqual(third['errors'], [{ code: 'ERR_POLICY_ARCHIVE', message: third['message'] }]);
  assert.equal(third['active_revision'], host.active?.revision, 'the one before goes on');
  assert.equal(server.reports.length, 3, 'what is no news is not sent');
});

test('nothing changes: it is told again after the interval', async (t) => {
  const server = await controlServer(t);
  const service = serviceOf({ url: server.url, interval_seconds: 0.05, bundle_name: 'policy/north' });
  await openReporter(t, () => service);
  const third = await eventually('the third', () => server.reports[2]);
  assert.equal(third.path, '/status');
  assert.deepEqual(Object.keys(third.body.bundles ?? {}), ['policy/north']);
});

test('a server that fails, redirects or holds is given up, said once, and told when it is back', async (t) => {
  const server = await controlServer(t);
  const lines: string[] = [];
  const logger = {
    ...silentLogger,
    warn: (_what: object, message: string) => lines.push(message),
    info: (_what: object, message: string) => lines.push(message),
  } as unknown as Logger;
  let service: Service | undefined;
  server.take((_request, response) => response.writeHead(500).end());
  const limits = limitsOfTest();
  const { reporter, results, host } = await openReporter(t, () => service, logger, limits);
  assert.equal(reporter.status(), undefined, 'nobody is told');
  service = serviceOf({ url: server.url });
  reporter.look();
  await eventually('failed twice', () => (results.length >= 2 ? true : undefined));
  assert.deepEqual(lines, ['status not reported'], 'the same failure again is no news');
  assert.equal(reporter.status()?.lastError, 'the server answers 500');
  server.take((_request, response) => response.writeHead(302, { location: 'http://169.254.169.254/' }).end());
  await eventually('a redirect', () => reporter.status()?.lastError?.includes('answers 302') || undefined);
  server.take(() => undefined);
  limits.silenceMs = 300;
  await eventually('held', () => reporter.status()?.lastError?.includes('silent for 300 ms') || undefined);
  await host.reload();
  assert.equal(results.includes('sent'), false);
  Object.assign(limits, limitsOfTest());
  server.take((_request, response) => response.writeHead(204).end());
  await eventually('sent', () => (results.includes('sent') ? true : undefined));
  assert.equal(reporter.status()?.lastError, undefined);
  assert.equal(lines.at(-1), 'status is reported again');
  server.take(() => undefined);
  const { length } = server.reports;
  service = serviceOf({ url: server.url, partition: 'other' });
  reporter.look();
  await eventually('it hangs', () => server.reports[length]);
  assert.equal(server.reports[length]?.path, '/status/other', 'another address is told at once');
  await reporter.close();
});

test('an agent reports what it runs, streams open while the server holds, and a reload names another', async (t) => {
  const server = await controlServer(t);
  server.take(() => undefined);
  const policy = policySchema.parse({
    bundle_url: server.bundleUrl,
    bundle_service: { min_delay_seconds: 0.02, max_delay_seconds: 0.04 },
    require_signed: false,
    status_service: { url: server.url },
  });
  const { target, started, gateway, listen } = await startEnds(t, (socket) => void socket.pipe(socket), {
    agent: { bundle: 'none', config: { policy } },
  });
  const { agent, config } = started;
  const failing = await eventually('a report', () => server.reports[0]);
  assert.equal(failing.body.plugins['bundle']?.state, 'NOT_READY');
  const bytes = bundle(1, target.port);
  server.give(giving(bytes, '"one"'));
  await untilReady(agent);
  await untilReady(gateway);
  assert.equal(await askOnce(t, listen, 'while it holds'), 'while it holds');
  const other = await controlServer(t);
  await agent.reload({
    ...config,
    policy: { ...config.policy, status_service: serviceOf({ url: other.url }) },
  });
  const reported = await eventually('the other server is told', () => other.reports[0], 30_000);
  const status = bundleOf(reported);
  assert.deepEqual(
    [status['type'], status['size'], status['code'], status['http_code']],
    ['snapshot', bytes.length, undefined, undefined],
  );
  for (const name of ['last_request', 'last_successful_request', 'last_successful_download']) {
    assert.match(String(status[name]), /^20\d\d-.*Z$/, name);
  }
  await eventually('the status has it', async () => {
    const { report } = (await statusOf(agent))['policy'] as { report: Record<string, unknown> };
    return report['url'] === `${other.url}/status` && report['last_success'] !== null ? true : undefined;
  });
  const metrics = await (await fetch(`${agent.statusUrl}/metrics`)).text();
  assert.match(metrics, /^sallyport_status_reports_total\{.*result="sent".*\} 1$/m);
  other.take((_request, response) => response.writeHead(200).end());
  server.give((_request, response) => response.writeHead(404).end());
  const failed = await eventually('the failure is reported', () =>
    other.reports.map(bundleOf).find((one) => one['code'] !== undefined),
  );
  assert.deepEqual([failed['http_code'], failed['active_revision']], [404, status['active_revision']]);
  assert.match(String(failed['message']), /answers 404/);
});

/** The shape of a value: names and kinds. */
const shape = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.slice(0, 1).map(shape);
  if (typeof value !== 'object' || value === null) {
    return typeof value === 'string' && /^\d{4}-\d\d-\d\dT/.test(value) ? 'instant' : typeof value;
  }
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, shape(one)]));
};

/** What OPA measures and an agent does not report, and what only an agent has. */
const withoutMetrics = (status: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(status).filter(([name]) => name !== 'metrics'));

/** The same revision for an OPA without a wasm engine. */
const regoBundle = async (bytes: Buffer): Promise<Buffer> => {
  const { revision } = JSON.parse(String((await readArchive(bytes)).get('.manifest'))) as {
    revision: string;
  };
  const manifest = { revision, roots: ['sallyport'] };
  return writeArchive(
    new Map([
      ['.manifest', Buffer.from(JSON.stringify(manifest))],
      ['sallyport/x.rego', Buffer.from('package sallyport.x')],
    ]),
  );
};

test('a report has the form of one that OPA sends of the same bundle to the same server', async (t) => {
  const opa = await testOpa();
  const server = await controlServer(t);
  const bytes = bundle(1);
  const ofRego = await regoBundle(bytes);
  server.give(giving(ofRego, '"one"'));
  const config = join(scratch(t), 'opa.json');
  writeFileSync(
    config,
    JSON.stringify({
      labels: { site: 'north' },
      services: { control: { url: server.url } },
      bundles: {
        sallyport: {
          service: 'control',
          resource: 'bundles/policy.tar.gz',
          polling: { min_delay_seconds: 1, max_delay_seconds: 1 },
        },
      },
      status: { service: 'control', partition_name: 'north' },
    }),
  );
  const address = `127.0.0.1:${String(await freePort())}`;
  const child = spawn(opa, ['run', '--server', '--addr', address, '-c', config, '--log-level', 'error'], {
    stdio: 'ignore',
  });
  t.after(async () => {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await ended;
  });
  const ofOpa = await eventually(
    'OPA reports an activation',
    () => server.reports.find((one) => bundleOf(one)['active_revision'] !== undefined),
    60_000,
  );
  server.give((_request, response) => response.writeHead(404).end());
  const failureOfOpa = await eventually('OPA reports a failure', () =>
    server.reports.find((one) => bundleOf(one)['http_code'] !== undefined),
  );
  child.kill('SIGTERM');
  await once(child, 'exit');

  const mine = await controlServer(t);
  mine.give(giving(bytes, '"one"'));
  const policy = policySchema.parse({
    bundle_url: mine.bundleUrl,
    bundle_service: { min_delay_seconds: 0.02, max_delay_seconds: 0.04 },
    require_signed: false,
    status_service: { url: mine.url, partition: 'north' },
  });
  await startEnds(t, (socket) => void socket.end(), {
    agent: { bundle: 'none', config: { policy, labels: { site: 'north' } } },
  });
  const ofAgent = await eventually('the agent reports an activation', () =>
    mine.reports.find((one) => bundleOf(one)['active_revision'] !== undefined),
  );
  mine.give((_request, response) => response.writeHead(404).end());
  const failureOfAgent = await eventually('the agent reports a failure', () =>
    mine.reports.find((one) => bundleOf(one)['http_code'] !== undefined),
  );

  assert.deepEqual([ofAgent.method, ofAgent.path], [ofOpa.method, ofOpa.path]);
  assert.deepEqual(ofAgent.headers['content-type'], ofOpa.headers['content-type']);
  const { active_revision: revision, name, type, size } = bundleOf(ofAgent);
  const opas = bundleOf(ofOpa);
  assert.deepEqual([revision, name, type], [opas['active_revision'], opas['name'], opas['type']]);
  assert.deepEqual([size, opas['size']], [bytes.length, ofRego.length]);
  assert.deepEqual(shape(bundleOf(ofAgent)), shape(withoutMetrics(opas)));
  const { errors, ...failure } = bundleOf(failureOfAgent);
  assert.ok(Array.isArray(errors), 'which code it is, where OPA has one for all');
  assert.deepEqual(shape(failure), shape(withoutMetrics(bundleOf(failureOfOpa))));
  assert.deepEqual(
    [failure['code'], failure['http_code']],
    [bundleOf(failureOfOpa)['code'], bundleOf(failureOfOpa)['http_code']],
  );
  const labels = Object.keys(ofAgent.body.labels);
  for (const label of Object.keys(ofOpa.body.labels)) assert.ok(labels.includes(label), label);
  const states = (body: Body): unknown => body.plugins['bundle']?.state;
  // OPA's own state lags behind its bundle by a report.
  assert.equal(states(failureOfAgent.body), states(failureOfOpa.body));
});

test('agent.yaml: what of the status service does not go together is an error', () => {
  const problems = (status_service: object): string =>
    (policySchema.safeParse({ bundle_file: 'b', require_signed: false, status_service }).error?.issues ?? [])
      .map(({ path, message }) => `${path.join('.')}: ${message}`)
      .join('\n');
  assert.equal(problems({ url: 'https://control.example.com/opa', partition: 'a.b-c_1' }), '');
  assert.match(problems({ url: 'http://control.example.com' }), /status_service\.url: an https address/);
  assert.match(problems({ url: 'https://h/p?x=1' }), /without a query/);
  assert.match(problems({ url: 'https://h', partition: '../x' }), /partition: letters/);
  assert.match(problems({ url: 'https://h', client_cert_file: 'c' }), /go together/);
  assert.match(problems({ url: 'https://h', proxy: 'none', proxy_credentials_file: 'c' }), /for the proxy/);
});
