import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttp, type RequestListener } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { BundleSource } from '../../src/agent/bundle-source.ts';
import { agentConfigSchema } from '../../src/agent/index.ts';
import { DEFAULT_BUNDLE_FILE, developmentBundle, keySigner, signBundle } from '../../src/policy/index.ts';
import { type Logger, systemClock } from '../../src/runtime/index.ts';
import { makeKey, trusted } from '../policy/signing-support.ts';
import { openHost } from '../policy/support.ts';
import { missingPrograms } from '../support/command.ts';
import { eventually } from '../support/eventually.ts';
import { giving } from '../support/scripted-server.ts';
import { selfSigned } from '../support/services.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const KEY = makeKey('ES256');
const TOKEN = 'the-token-of-the-bundle-server';
const PASSWORD = 'pa:ss wörd%';
const skip = missingPrograms({ openssl: 'openssl' });

const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port;

/** A CONNECT proxy that wants `user:PASSWORD`, as squid answers; `refuse` takes its place where it is set. */
const startProxy = async (t: TestContext) => {
  const state = { refuse: undefined as string | undefined, seen: '', tunnels: 0, asked: 0 };
  const sockets = new Set<Socket>();
  const server = createHttp((_request, response) => response.writeHead(400).end());
  server.on('connect', (request, socket: Socket) => {
    sockets.add(socket.on('error', () => undefined));
    state.asked += 1;
    const wanted = `Basic ${Buffer.from(`user:${PASSWORD}`).toString('base64')}`;
    if (state.refuse !== undefined) {
      socket.end(state.refuse);
      return;
    }
    if (request.headers['proxy-authorization'] !== wanted) {
      const page = '<html><title>ERR_CACHE_ACCESS_DENIED</title></html>';
      const head = ['HTTP/1.1 407 Proxy Authentication Required', 'Server: squid/5.7', 'Via: 1.1 squid'];
      const rest = ['Proxy-Authenticate: Basic realm="squid"', `Content-Length: ${String(page.length)}`];
      socket.end([...head, ...rest, '', page].join('\r\n'));
      return;
    }
    state.tunnels += 1;
    const [host = '', port] = (request.url ?? '').split(':');
    const upstream = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      socket.on('data', (chunk: Buffer) => (state.seen += chunk.toString('latin1'))).pipe(upstream);
      upstream.pipe(socket);
    });
    sockets.add(upstream.on('error', () => undefined));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { state, url: `http://127.0.0.1:${String(portOf(server))}` };
};

const startServer = async (t: TestContext, listener: RequestListener) => {
  const { certFile, keyFile } = selfSigned(t);
  const server = createHttps({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `https://localhost:${String(portOf(server))}/policy.tar.gz`, caFile: certFile };
};

/** Everything that is logged, as text. */
const recordingLogger = (): { logger: Logger; text: () => string } => {
  const lines: unknown[] = [];
  const log = (...args: unknown[]): void => void lines.push(args);
  const logger = { debug: log, info: log, warn: log, error: log } as unknown as Logger;
  return { logger, text: () => JSON.stringify(lines) };
};

const start = async (t: TestContext, service: Record<string, string | number>) => {
  const plain = developmentBundle(
    readFileSync(DEFAULT_BUNDLE_FILE),
    [{ name: 'db', host: '127.0.0.1', port: 9 }],
    {
      sequence: 1,
    },
  );
  const bundle = await signBundle(plain, keySigner(KEY.privatePem), undefined);
  const tokens: (string | undefined)[] = [];
  const server = await startServer(t, (request, response) => {
    tokens.push(request.headers.authorization);
    giving(bundle, '"one"')(request, response);
  });
  const tokenFile = join(temporaryDirectory(t, 'token'), 'token');
  writeFileSync(tokenFile, TOKEN);
  const policy = agentConfigSchema.shape.policy.parse({
    bundle_url: server.url,
    bundle_service: {
      min_delay_seconds: 0.02,
      max_delay_seconds: 0.04,
      ca_file: server.caFile,
      token_file: tokenFile,
      ...service,
    },
    keys: [{ id: 'test', algorithm: KEY.algorithm, public_key: KEY.publicPem }],
  });
  const { logger, text } = recordingLogger();
  const stateDir = temporaryDirectory(t, 'source');
  const host = await openHost(t, undefined, {
    source: { name: server.url },
    stateDir,
    requireSigned: true,
    keys: [trusted(KEY)],
  });
  const deps = { policy, stateDir, host, clock: systemClock, logger, onFetched: () => undefined };
  const source = new BundleSource(server.url, deps);
  t.after(() => source.close());
  source.start();
  const untilError = (what: RegExp): Promise<true> =>
    eventually(String(what), () => {
      const { lastError = '' } = source.status();
      if (!what.test(lastError)) throw new Error(lastError);
      return true;
    });
  const untilActive = (): Promise<unknown> =>
    eventually('active', () => {
      if (host.active === undefined) throw new Error(source.status().lastError ?? 'no bundle');
      return true;
    });
  return { host, source, tokens, text, untilError, untilActive };
};

test('through a proxy that wants credentials, which sees neither request nor token', { skip }, async (t) => {
  const proxy = await startProxy(t);
  const credentials = join(temporaryDirectory(t, 'proxy'), 'credentials');
  writeFileSync(credentials, 'user:wrong-one\n');
  const service = { proxy: proxy.url, proxy_credentials_file: credentials };
  const { host, source, tokens, text, untilError, untilActive } = await start(t, service);
  await untilError(/^proxy answered 407: 127\.0\.0\.1:\d+ refuses the credentials that it was given$/);
  assert.equal(host.active, undefined);
  assert.deepEqual(tokens, [], 'nothing went around the proxy');

  writeFileSync(credentials, `user:${PASSWORD}\n`);
  await untilActive();
  assert.ok(proxy.state.tunnels > 0);
  assert.equal(tokens[0], `Bearer ${TOKEN}`);
  assert.ok(proxy.state.seen.length > 0);
  for (const secret of [TOKEN, 'GET ', 'policy.tar.gz'])
    assert.ok(!proxy.state.seen.includes(secret), secret);
  const shown = text() + JSON.stringify(source.status());
  for (const secret of ['wrong-one', PASSWORD, TOKEN, Buffer.from(`user:${PASSWORD}`).toString('base64')]) {
    assert.ok(!shown.includes(secret), 'no secret is logged or shown');
  }
});

test('what a proxy answers itself is never taken for the server', { skip }, async (t) => {
  const proxy = await startProxy(t);
  const url = new URL(proxy.url);
  url.username = 'user';
  url.password = encodeURIComponent(PASSWORD);
  const { host, source, tokens, untilActive, untilError } = await start(t, { proxy: url.href });
  await untilActive();
  // An unchanged bundle is the word of its server alone, whatever a proxy says instead of a tunnel.
  for (const status of ['304 Not Modified', '204 No Content', '302 Found', '503 Busy']) {
    proxy.state.refuse = `HTTP/1.1 ${status}\r\nETag: "one"\r\nLocation: https://elsewhere/\r\n\r\n`;
    await untilError(new RegExp(`^proxy answered ${status.slice(0, 3)}$`));
    const { lastSuccessMs } = source.status();
    const { asked } = proxy.state;
    await eventually('asked again', () => (proxy.state.asked > asked ? true : undefined));
    assert.equal(source.status().lastSuccessMs, lastSuccessMs, 'which confirms nothing');
  }
  const before = tokens.length;
  proxy.state.refuse = undefined;
  await eventually('heard again', () => (tokens.length > before ? true : undefined));
  assert.equal(host.status().active?.sequence, 1);
});

test('the configured proxy comes before the environment, none before any', { skip }, async (t) => {
  const names = ['HTTPS_PROXY', 'https_proxy', 'NO_PROXY', 'no_proxy'] as const;
  const before = names.map((name) => [name, process.env[name]] as const);
  t.after(() => {
    for (const [name, value] of before) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
  });
  for (const name of names) Reflect.deleteProperty(process.env, name);
  const [environment, configured] = [await startProxy(t), await startProxy(t)];
  const withPassword = (url: string): string => url.replace('//', `//user:${encodeURIComponent(PASSWORD)}@`);
  process.env['HTTPS_PROXY'] = withPassword(environment.url);

  const first = await start(t, {});
  await first.untilActive();
  await first.source.close();
  assert.ok(environment.state.tunnels > 0, 'the environment is used where nothing is configured');

  const used = environment.state.asked;
  const second = await start(t, { proxy: withPassword(configured.url) });
  await second.untilActive();
  await second.source.close();
  assert.ok(configured.state.tunnels > 0);
  const third = await start(t, { proxy: 'none' });
  await third.untilActive();
  await third.source.close();
  process.env['NO_PROXY'] = 'localhost';
  const fourth = await start(t, {});
  await fourth.untilActive();
  assert.equal(environment.state.asked, used);
});

test('proxies that cannot be used are refused with the configuration', () => {
  const policy = (service: object) =>
    agentConfigSchema.shape.policy.safeParse({
      bundle_url: 'https://bundles.test/b',
      require_signed: false,
      bundle_service: service,
    });
  assert.ok(policy({ proxy: 'http://proxy:3128', proxy_credentials_file: 'f' }).success);
  for (const service of [
    { proxy: 'socks5://proxy' },
    { proxy: 'proxy:3128' },
    { proxy_credentials_file: 'f' },
    { proxy: 'none', proxy_credentials_file: 'f' },
  ])
    assert.ok(!policy(service).success, JSON.stringify(service));
});
