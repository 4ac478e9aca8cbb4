import assert from 'node:assert/strict';
import { readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import type { RequestListener, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { BundleRequest } from '../../src/agent/bundle-http.ts';
import { BundleSource, type FetchResult } from '../../src/agent/bundle-source.ts';
import { agentConfigSchema } from '../../src/agent/index.ts';
import {
  DEFAULT_BUNDLE_FILE,
  developmentBundle,
  keySigner,
  type PolicyHost,
  signBundle,
} from '../../src/policy/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { bomb, withEntry } from '../policy/hostile-archives.ts';
import { edit, makeKey, trusted } from '../policy/signing-support.ts';
import { openHost } from '../policy/support.ts';
import { missingPrograms } from '../support/command.ts';
import { eventually } from '../support/eventually.ts';
import { giving, scriptedServer } from '../support/scripted-server.ts';
import { selfSigned, startFileNginx } from '../support/services.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const KEY = makeKey('ES256');
const signer = keySigner(KEY.privatePem);
const unsigned = (sequence: number): Buffer =>
  developmentBundle(readFileSync(DEFAULT_BUNDLE_FILE), [{ name: 'db', host: '127.0.0.1', port: 9 }], {
    sequence,
  });
const signed = (sequence: number): Promise<Buffer> => signBundle(unsigned(sequence), signer, undefined);

type Scripted = Awaited<ReturnType<typeof scriptedServer>>;
type Service = Record<string, string | number>;
const policySchema = agentConfigSchema.shape.policy;

interface Opened {
  readonly host: PolicyHost;
  readonly source: BundleSource;
  readonly results: readonly FetchResult[];
  /** Resolves when a request that `listener` answered ended so: never by one that was under way before. */
  readonly answered: (server: Scripted, listener: RequestListener, result: FetchResult) => Promise<void>;
  /** Resolves when a request that ends from now on (and `count` of them) ended so. */
  readonly until: (result: FetchResult, count?: number) => Promise<void>;
}

interface OpenOptions {
  readonly service?: Service;
  readonly stateDir?: string;
  readonly limits?: Pick<BundleRequest, 'silenceLimitMs' | 'totalLimitMs'>;
}

/** A host that takes signed bundles only, and the source that asks `url` as often as it may. */
const open = async (t: TestContext, url: string, options: OpenOptions = {}): Promise<Opened> => {
  const stateDir = options.stateDir ?? temporaryDirectory(t, 'source');
  const host = await openHost(t, undefined, {
    source: { name: url },
    stateDir,
    requireSigned: true,
    keys: [trusted(KEY)],
  });
  const results: FetchResult[] = [];
  const policy = policySchema.parse({
    bundle_url: url,
    bundle_service: { min_delay_seconds: 0.02, max_delay_seconds: 0.04, ...options.service },
    keys: [{ id: 'test', algorithm: KEY.algorithm, public_key: KEY.publicPem }],
  });
  const source = new BundleSource(url, {
    policy,
    stateDir,
    host,
    clock: systemClock,
    logger: silentLogger,
    onFetched: (result) => results.push(result),
    ...(options.limits === undefined ? {} : { limits: options.limits }),
  });
  t.after(() => source.close());
  source.start();
  const until = async (result: FetchResult, count = 1): Promise<void> => {
    const from = results.length;
    await eventually(`${count} times ${result}`, () => {
      const found = results.slice(from).filter((one) => one === result).length;
      if (found < count) throw new Error(`${results.slice(-5).join()} ${source.status().lastError ?? ''}`);
      return true;
    });
  };
  const answered: Opened['answered'] = async (server, listener, result) => {
    // Requests follow one another, so the one that is asked next ends as the next result.
    let asked: number | undefined;
    server.answer((request, response) => {
      asked ??= results.length;
      listener(request, response);
    });
    await eventually(`answered, and ${result}`, () => {
      const from = asked ?? results.length;
      if (!results.slice(from).includes(result))
        throw new Error(`${results.slice(-5).join()} ${source.status().lastError ?? ''}`);
      return true;
    });
  };
  return { host, source, results, answered, until };
};

test('a bundle from nginx: private authority, bearer token, client certificate, etag, replacement', {
  skip: missingPrograms({ nginx: 'nginx-light', openssl: 'openssl' }),
}, async (t) => {
  const root = temporaryDirectory(t, 'root');
  const client = selfSigned(t);
  const tokenFile = join(temporaryDirectory(t, 'token'), 'token');
  writeFileSync(tokenFile, 'wrong\n');
  const put = async (sequence: number): Promise<void> => {
    writeFileSync(join(root, 'next'), await signed(sequence));
    // nginx makes the etag of the second of the change and the size: two bundles of one second could share it.
    utimesSync(join(root, 'next'), sequence, sequence);
    renameSync(join(root, 'next'), join(root, 'policy.tar.gz'));
  };
  await put(1);
  const nginx = await startFileNginx(t, root, { token: 'secret-1', clientCaFile: client.certFile });
  const url = `https://localhost:${String(nginx.httpsPort)}/policy.tar.gz`;
  const mutual = { client_cert_file: client.certFile, client_key_file: client.keyFile };
  const service = { ca_file: nginx.caFile, token_file: tokenFile, ...mutual };
  const { host, source, until } = await open(t, url, { service });
  await eventually('the token is refused', () => {
    assert.match(source.status().lastError ?? '', /answers 401/);
    return true;
  });
  assert.equal(host.active, undefined);
  writeFileSync(tokenFile, 'secret-1\n');
  await until('unchanged', 2);
  assert.equal(host.status().active?.sequence, 1);
  assert.equal(host.status().active?.signedBy, 'test');
  assert.match(source.status().etag ?? '', /^"[0-9a-f-]+"$/);
  assert.equal(source.status().lastError, undefined);
  await put(2);
  await until('activated');
  assert.equal(host.status().active?.sequence, 2);

  const strangers = await open(t, url, { service: { token_file: tokenFile, ...mutual } });
  await strangers.until('failed');
  assert.match(strangers.source.status().lastError ?? '', /self[- ]signed/);
  const nameless = await open(t, url, { service: { ca_file: nginx.caFile, token_file: tokenFile } });
  await nameless.until('failed');
  assert.match(nameless.source.status().lastError ?? '', /answers 400/);
  assert.equal(strangers.host.active ?? nameless.host.active, undefined);
});

test('what is asked: snapshots, no coding, the etag of the bundle that is active, and only of that', async (t) => {
  const server = await scriptedServer(t);
  const { host, until } = await open(t, server.url);
  server.answer(giving(await signed(1), '"one"'));
  await until('unchanged');
  server.answer(giving(Buffer.from('garbage'), '"two"'));
  await until('refused', 2);
  assert.equal(host.status().active?.sequence, 1);
  const last = server.requests.at(-1)?.headers;
  assert.deepEqual(
    [last?.prefer, last?.['accept-encoding'], last?.['if-none-match'], last?.authorization],
    ['modes=snapshot', 'identity', '"one"', undefined],
  );
  server.answer(giving(await signed(1), '"one"'));
  await until('unchanged');
  assert.equal(host.status().rejected, undefined, 'the server stands by what is active');
  server.answer(giving(await signed(2), '"three"'));
  await until('activated');
  assert.equal(host.status().active?.sequence, 2);
});

test('a server that can hold its answers is asked again when it answers', async (t) => {
  const server = await scriptedServer(t);
  const held: ServerResponse[] = [];
  const type = { 'content-type': 'application/vnd.openpolicyagent.bundles' };
  const first = await signed(1);
  server.answer((request, response) => {
    if (request.headers['if-none-match'] === '"one"') held.push(response);
    else giving(first, '"one"', type)(request, response);
  });
  const { host } = await open(t, server.url, { service: { long_poll_seconds: 60 } });
  const holding = await eventually('the poll is held', () => held[0]);
  assert.equal(server.requests.at(-1)?.headers.prefer, 'modes=snapshot;wait=60');
  assert.equal(host.status().active?.sequence, 1);
  const second = await signed(2);
  holding.writeHead(200, { etag: '"two"', ...type }).end(second);
  await eventually('the next bundle is active', () =>
    host.status().active?.sequence === 2 ? true : undefined,
  );
  assert.equal(held.length, 1);
});

test('hostile bundles are refused, each for its reason, and the one before stays', async (t) => {
  const server = await scriptedServer(t);
  const { host, source, answered, until } = await open(t, server.url);
  const good = await signed(5);
  server.answer(giving(good, '"good"'));
  await until('unchanged');
  const { active, generation } = host;
  const next = await signed(6);
  const hostile: Readonly<Record<string, readonly [Buffer, RegExp, string]>> = {
    garbage: [Buffer.from('this is no bundle'), /does not expand/, 'ERR_POLICY_ARCHIVE'],
    empty: [Buffer.alloc(0), /does not expand/, 'ERR_POLICY_ARCHIVE'],
    'half a bundle': [next.subarray(0, next.length / 2), /does not expand/, 'ERR_POLICY_ARCHIVE'],
    'a bomb of ten gibibytes': [bomb(), /does not expand/, 'ERR_POLICY_ARCHIVE'],
    unsigned: [unsigned(6), /not signed/, 'ERR_POLICY_UNSIGNED'],
    'another key': [
      await signBundle(unsigned(6), keySigner(makeKey('ES256').privatePem), undefined),
      /none of the configured keys/,
      'ERR_POLICY_SIGNATURE',
    ],
    'an altered file': [
      await edit(next, (files) => void files.set('vectors.json', Buffer.from('[ ]'))),
      /not what was signed/,
      'ERR_POLICY_SIGNATURE',
    ],
    'an extra file': [
      await edit(next, (files) => void files.set('extra.rego', Buffer.from('package x'))),
      /not covered/,
      'ERR_POLICY_SIGNATURE',
    ],
    'a lower sequence': [await signed(4), /lower than 5/, 'ERR_POLICY_SEQUENCE'],
    'the same sequence': [
      await signBundle(
        await edit(unsigned(5), (files) => void files.set('extra.rego', Buffer.from('package sallyport.x'))),
        signer,
        undefined,
      ),
      /was active with other content/,
      'ERR_POLICY_SEQUENCE',
    ],
    'a climbing name': [withEntry(next, '../../etc/cron.d/x', '0'), /climbs/, 'ERR_POLICY_ARCHIVE'],
    'an absolute name': [withEntry(next, '/etc/cron.d/x', '0'), /absolute/, 'ERR_POLICY_ARCHIVE'],
    'a symbolic link': [withEntry(next, 'link', '2'), /not a regular file/, 'ERR_POLICY_ARCHIVE'],
    'a hard link': [withEntry(next, 'link', '1'), /not a regular file/, 'ERR_POLICY_ARCHIVE'],
    'a delta bundle': [withEntry(next, '/patch.json', '0'), /delta bundle/, 'ERR_POLICY_ARCHIVE'],
  };
  for (const [what, [bytes, message, code]] of Object.entries(hostile)) {
    await answered(server, giving(bytes, `"${what}"`), 'refused');
    assert.match(source.status().lastError ?? '', message, what);
    assert.equal(host.status().rejected?.code, code, what);
    assert.equal(host.active, active, what);
    assert.equal(host.generation, generation, what);
  }
  server.answer(giving(next, '"next"'));
  await until('activated');
  assert.equal(host.status().active?.sequence, 6);
});

test('answers that are none are failures, and the one before stays', async (t) => {
  const server = await scriptedServer(t);
  const limits = { silenceLimitMs: 300, totalLimitMs: 1_000 };
  const { host, source, answered, until } = await open(t, server.url, { limits });
  const good = await signed(1);
  server.answer(giving(good, '"good"'));
  await until('unchanged');
  const { active } = host;
  const chunk = Buffer.alloc(1024 * 1024);
  const answers: Readonly<Record<string, readonly [RequestListener, RegExp]>> = {
    'a server error': [(_request, response) => response.writeHead(500).end(good), /answers 500/],
    'not there': [(_request, response) => response.writeHead(404).end(good), /answers 404/],
    'a redirect': [
      (_request, response) => response.writeHead(302, { location: 'http://169.254.169.254/' }).end(),
      /answers 302, which leads elsewhere/,
    ],
    'a body cut short': [
      (_request, response) => {
        response.writeHead(200, { 'content-length': good.length });
        response.write(good.subarray(0, 1_000), () => response.destroy());
      },
      /aborted|hang up|reset/,
    ],
    'chunks cut short': [
      (_request, response) => {
        response.writeHead(200);
        response.write(good.subarray(0, 1_000), () => response.destroy());
      },
      /aborted|hang up|reset/,
    ],
    'ten gibibytes, said': [
      (_request, response) => {
        response.writeHead(200, { 'content-length': String(10 * 1024 ** 3) });
        response.write(chunk);
      },
      /10737418240 bytes, the limit is 67108864/,
    ],
    'nothing at all': [() => undefined, /silent for 300 ms/],
    'a silent body': [
      (_request, response) => {
        response.writeHead(200, { 'content-length': good.length });
        response.write(good.subarray(0, 10));
      },
      /silent for 300 ms|aborted/,
    ],
    'a slow body': [
      (_request, response) => {
        response.writeHead(200, { 'content-length': good.length });
        const drip = setInterval(() => response.write(good.subarray(0, 1)), 50);
        response.once('close', () => clearInterval(drip));
      },
      /no whole answer within 1000 ms/,
    ],
    'a coding': [
      (_request, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(good)),
      /content-encoding gzip/,
    ],
    'an endless etag': [
      (_request, response) => response.writeHead(200, { etag: `"${'x'.repeat(2_000)}"` }).end(good),
      /etag has 2002 characters/,
    ],
    'no http': [(request) => void request.socket.end('SSH-2.0-OpenSSH_9.9\r\n'), /Parse Error|HTTP/],
    'a closed connection': [(request) => void request.socket.destroy(), /hang up|reset/],
  };
  for (const [what, [listener, message]] of Object.entries(answers)) {
    await answered(server, listener, 'failed');
    assert.match(source.status().lastError ?? '', message, what);
    assert.equal(host.active, active, what);
    await answered(server, giving(good, '"good"'), 'unchanged');
    assert.equal(source.status().lastError, undefined, what);
  }
});

test('a body without end is read up to the limit and no further', async (t) => {
  const server = await scriptedServer(t);
  const chunk = Buffer.alloc(1024 * 1024);
  const endless = (response: ServerResponse): void => {
    while (response.write(chunk));
    response.once('drain', () => endless(response));
  };
  server.answer((_request, response) => {
    response.writeHead(200);
    endless(response);
  });
  const { host, source, until } = await open(t, server.url);
  await until('failed');
  assert.match(source.status().lastError ?? '', /over 67108864 bytes/);
  assert.equal(host.active, undefined);
});

test('"unchanged" from a server that was asked for a bundle is a failure', async (t) => {
  const server = await scriptedServer(t);
  server.answer((_request, response) => response.writeHead(304, { etag: '"x"' }).end());
  const { host, source, until } = await open(t, server.url);
  await until('failed');
  assert.match(source.status().lastError ?? '', /was not asked that/);
  assert.equal(host.active, undefined);
});

test('the last good bundle is used after a restart without the server, and asked for by its etag', async (t) => {
  const server = await scriptedServer(t);
  const stateDir = temporaryDirectory(t, 'state');
  server.answer(giving(await signed(3), '"three"'));
  const first = await open(t, server.url, { stateDir });
  await first.until('unchanged');
  await first.source.close();
  await first.host.close();
  server.answer((_request, response) => response.writeHead(503).end());
  const second = await open(t, server.url, { stateDir });
  assert.deepEqual([second.host.status().active?.sequence, second.host.active?.signedBy], [3, 'test']);
  await second.until('failed');
  assert.equal(server.requests.at(-1)?.headers['if-none-match'], '"three"');
  assert.ok((second.host.status().freshness.ageMs ?? -1) >= 0, 'the time without the agent counts');
  server.answer(giving(await signed(2), '"two"'));
  await second.until('refused');
  assert.equal(second.host.status().rejected?.code, 'ERR_POLICY_SEQUENCE');
  await second.source.close();
  await second.host.close();

  const kept = readdirSync(stateDir);
  const bundleFile = kept.find((name) => name.startsWith('last-good-bundle-'));
  assert.ok(bundleFile !== undefined);
  writeFileSync(
    join(stateDir, bundleFile),
    await edit(
      readFileSync(join(stateDir, bundleFile)),
      (files) => void files.set('x.rego', Buffer.from('package x')),
    ),
  );
  server.answer((_request, response) => response.writeHead(503).end());
  const third = await open(t, server.url, { stateDir });
  assert.equal(third.host.active, undefined, 'what was altered on disk is not used');
});

test('a held bundle is not fetched again and again, and after it was confirmed not either', async (t) => {
  const server = await scriptedServer(t);
  const stateDir = temporaryDirectory(t, 'state');
  server.answer(giving(await signed(1), '"one"'));
  const { host, source, until } = await open(t, server.url, { stateDir });
  await until('unchanged');
  host.reviewBy(() => Promise.resolve({ live: 20, wouldClose: 20, isHeld: true }));
  server.answer(giving(await signed(2), '"two"'));
  await until('held');
  await until('unchanged', 2);
  assert.equal(host.status().active?.sequence, 1);
  assert.equal(source.status().etag, '"one"', 'what is kept belongs to what decides');
  assert.equal(await host.activateHeld(host.status().held?.id ?? ''), true);
  await until('unchanged', 2);
  assert.deepEqual([host.status().active?.sequence, source.status().etag], [2, '"two"']);
});
