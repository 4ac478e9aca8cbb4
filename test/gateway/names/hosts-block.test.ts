import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  applyNames,
  assignNames,
  previewNames,
  removeNames,
  showNamesBlock,
} from '../../../src/gateway/index.ts';
import type { HostsWrite } from '../../../src/gateway/names/hosts-file.ts';
import { readHostsText } from '../../../src/gateway/names/hosts-text.ts';
import { type NamesConfig, missingNames } from '../../../src/gateway/names/names.ts';
import { systemClock } from '../../../src/runtime/index.ts';
import { runCommand } from '../../support/command.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const HOSTS = '127.0.0.1\tlocalhost\r\n# kept\r\n10.9.8.7 other.example';

interface Place {
  readonly directory: string;
  readonly hosts: string;
  text(): string;
  config(name: string, ...targets: string[]): NamesConfig;
  apply(config: NamesConfig, file?: string): Promise<HostsWrite>;
  remove(config: NamesConfig, file?: string): Promise<HostsWrite>;
}

const makePlace = (t: TestContext): Place => {
  const directory = temporaryDirectory(t, 'hosts');
  const hosts = join(directory, 'hosts');
  writeFileSync(hosts, HOSTS);
  const text = (): string => readFileSync(hosts, 'latin1');
  return {
    directory,
    hosts,
    text,
    config: (name, ...targets) => ({
      namespace: 'relay.example.com',
      name,
      state_dir: join(directory, `state-${name}`),
      connections: targets.map((target, index) => ({ name: `c${index}`, target, transparent: true })),
    }),
    apply: async (config, file = hosts) =>
      applyNames(file, config, await assignNames(config, text(), systemClock), systemClock),
    remove: (config, file = hosts) => removeNames(file, config, systemClock),
  };
};

test('several gateways have a block each; one host has one address for all of them, two hosts have two', async (t) => {
  const place = makePlace(t);
  const first = place.config('gateway-1', 'sql01.corp.example:1433');
  const second = place.config('gateway-2', 'sql01.corp.example:5432', 'web.corp.example:443');
  await place.apply(first);
  // Somebody else's name is where web.corp.example would begin.
  writeFileSync(place.hosts, `127.77.182.227 stranger.example\n${place.text()}`);
  await place.apply(second);
  const addresses = (await assignNames(second, '', systemClock)).map(({ address }) => address);
  assert.deepEqual(addresses, ['127.77.255.206', '127.77.182.228']);
  await place.remove(first);
  await place.remove(second);
  assert.equal(place.text(), `127.77.182.227 stranger.example\n${HOSTS}`);
});

test('a host keeps its address, and gets it back; a state that is none says what to do', async (t) => {
  const place = makePlace(t);
  const addressesOf = async (...targets: string[]): Promise<Record<string, string>> => {
    const hosts = await assignNames(place.config('gateway-1', ...targets), '', systemClock);
    return Object.fromEntries(hosts.map(({ host, address }) => [host, address]));
  };
  // As a version with another choice of first addresses has left it.
  const state = join(place.directory, 'state-gateway-1');
  mkdirSync(state);
  const book = { version: 1, hosts: [{ host: 'a.example', address: '127.77.4.4' }] };
  writeFileSync(join(state, 'names.json'), JSON.stringify(book));
  assert.deepEqual(await addressesOf('a.example:1'), { 'a.example': '127.77.4.4' });
  const { 'b.example': b } = await addressesOf('b.example:1');
  const all = await addressesOf('c.example:1', 'a.example:2', 'b.example:1');
  assert.deepEqual([all['a.example'], all['b.example']], ['127.77.4.4', b]);
  assert.deepEqual(await addressesOf(), {});

  writeFileSync(join(state, 'names.json'), '{"version": 2}');
  await assert.rejects(addressesOf('a.example:1'), {
    code: 'ERR_GATEWAY_STATE',
    message: /names\.json cannot be used: not the expected form; remove it, restart the gateway/,
  });
});

test('a gateway without names leaves nothing in its state', async (t) => {
  const place = makePlace(t);
  assert.deepEqual(await assignNames(place.config('gateway-1'), '', systemClock), []);
  assert.deepEqual(readdirSync(place.directory), ['hosts']);
});

test('a name that leads elsewhere is refused with its line, and nothing is written', async (t) => {
  const place = makePlace(t);
  await assert.rejects(place.apply(place.config('gateway-1', 'other.example:1433')), {
    code: 'ERR_HOSTS_CONFLICT',
    message: /hosts:3: other\.example is 10\.9\.8\.7 there$/,
  });
  assert.equal(place.text(), HOSTS);
});

test('a damaged block is refused by whoever reads or writes it', async (t) => {
  const place = makePlace(t);
  const config = place.config('gateway-1', 'sql01.corp.example:1433');
  await place.apply(config);
  const damaged = place.text().replace('sql01', 'sql02');
  writeFileSync(place.hosts, damaged);
  const refusal = {
    code: 'ERR_HOSTS_DAMAGED',
    message: /hosts: the block of .* \(lines 1 to 4\) is damaged: .*; restore it, or delete lines 1 to 4/,
  };
  await assert.rejects(place.apply(config), refusal);
  await assert.rejects(place.remove(config), refusal);
  const hosts = previewNames(config, damaged, systemClock);
  assert.throws(() => showNamesBlock(place.hosts, config, hosts), refusal);
  assert.equal(place.text(), damaged);
});

test('owner and mode stay, symbolic links stay, a hard link is written over', async (t) => {
  const place = makePlace(t);
  const config = place.config('gateway-1', 'sql01.corp.example:1433');
  chownSync(place.hosts, 65_534, 65_533);
  chmodSync(place.hosts, 0o4664);
  const link = join(place.directory, 'link');
  symlinkSync('hosts', link);
  assert.deepEqual(await place.apply(config, link), { changed: true, inPlace: false });
  const { uid, gid, mode } = statSync(place.hosts);
  assert.deepEqual([uid, gid, mode & 0o7777], [65_534, 65_533, 0o4664]);
  assert.equal(readFileSync(link, 'latin1').endsWith(HOSTS), true);
  await place.remove(config, link);

  const second = join(place.directory, 'second');
  linkSync(place.hosts, second);
  assert.deepEqual(await place.apply(config), { changed: true, inPlace: true });
  assert.equal(statSync(second).ino, statSync(place.hosts).ino);
  assert.notEqual(readFileSync(second, 'latin1'), HOSTS);
  assert.deepEqual(await place.remove(config), { changed: true, inPlace: true });
  assert.equal(readFileSync(second, 'latin1'), HOSTS, 'what was longer is cut');
  assert.deepEqual(
    readdirSync(place.directory).filter((name) => name.endsWith('.tmp')),
    [],
  );
});

test('a hosts file that is not there is made, for everybody to read', async (t) => {
  const place = makePlace(t);
  const config = place.config('gateway-1', 'sql01.corp.example:1433');
  const file = join(place.directory, 'new');
  await place.apply(config, file);
  assert.equal(statSync(file).mode & 0o777, 0o644);
  await assert.rejects(place.apply(config, place.directory), {
    code: 'ERR_HOSTS_FILE',
    message: /no regular file/,
  });
});

test('names that a hosts file does not lead here are known, whoever wrote its lines', () => {
  const host = { host: 'a.example', names: ['a.example', 'a'], address: '127.77.1.1', ports: [] };
  assert.deepEqual(missingNames([host], ''), ['a.example', 'a']);
  assert.deepEqual(missingNames([host], '127.77.1.1 A.example\n127.77.1.2 a\n'), ['a']);
  assert.deepEqual(missingNames([host], '127.77.1.1 a a.example.'), []);
});

test('gateways that apply and remove at the same time lose nothing, and a reader sees whole files', async (t) => {
  const place = makePlace(t);
  const names = ['gateway-1', 'gateway-2', 'gateway-3', 'gateway-4'];
  const program = fileURLToPath(new URL('./applying-process.js', import.meta.url));
  let running = names.length;
  const ended = names.map(async (name) => {
    const { code, stderr } = await runCommand(process.execPath, [program, place.hosts, name, '8']);
    running -= 1;
    assert.equal(code, 0, stderr);
  });
  while (running > 0) {
    assert.equal(place.text().endsWith(HOSTS), true);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(ended);
  const text = place.text();
  for (const name of names) {
    assert.equal(readHostsText(text, `relay.example.com/${name}`).own?.length, 2, name);
    await place.remove(place.config(name));
  }
  assert.equal(place.text(), HOSTS);
});
