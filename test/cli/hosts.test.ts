import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { stringify } from 'yaml';
import { readHostsText } from '../../src/gateway/names/hosts-text.ts';
import { type CommandResult, runCommand, sallyport, sallyportProgram } from '../support/command.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const HOSTS = '127.0.0.1\tlocalhost\r\n# kept\r\n10.9.8.7 other.example';

interface Place {
  readonly directory: string;
  readonly hosts: string;
  /** `sallyport hosts VERB -c gateway-1.yaml --file hosts`, with `--json` unless told otherwise. */
  run(verb: string, options?: { json?: boolean }): Promise<CommandResult>;
  /** Writes `NAME.yaml`, whose connections lead to these targets. */
  gateway(name: string, targets: readonly string[]): string;
}

const makePlace = (t: TestContext): Place => {
  const directory = temporaryDirectory(t, 'hosts');
  const hosts = join(directory, 'hosts');
  writeFileSync(hosts, HOSTS);
  return {
    directory,
    hosts,
    run: (verb, { json = true } = {}) =>
      sallyport([
        ...(json ? ['--json'] : []),
        'hosts',
        verb,
        '-c',
        join(directory, 'gateway-1.yaml'),
        '--file',
        hosts,
      ]),
    gateway(name, targets) {
      const file = join(directory, `${name}.yaml`);
      const settings = {
        namespace: 'relay.example.com',
        name,
        state_dir: `state-${name}`,
        relays: [{ host: 'relay.example.com', control_port: 443, data_ports: [443] }],
        status: { listen: '127.0.0.1:1' },
        connections: targets.map((target, index) => ({
          name: `c${index}`,
          connection_string: 'x',
          target,
          transparent: true,
        })),
      };
      writeFileSync(file, stringify(settings));
      return file;
    },
  };
};

const json = ({ code, stdout, stderr }: CommandResult): Record<string, unknown> => {
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as Record<string, unknown>;
};

const errorOf = ({ stderr }: CommandResult): { code: string; message: string } => {
  const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
  return error;
};

test('print shows, apply writes once, remove restores byte for byte', async (t) => {
  const place = makePlace(t);
  place.gateway('gateway-1', ['sql01.corp.example:1433', 'sql01.corp.example:5432', 'web.corp.example:443']);
  const printed = json(await place.run('print'));
  assert.equal(printed['standing'], 'absent');
  assert.equal(readFileSync(place.hosts, 'latin1'), HOSTS, 'print writes nothing');
  assert.equal(readdirSync(place.directory).includes('state-gateway-1'), false);

  const applied = json(await place.run('apply'));
  assert.deepEqual([applied['changed'], applied['in_place']], [true, false]);
  assert.deepEqual(applied['names'], printed['names'], 'what was shown is what is written');
  assert.deepEqual(printed['names'], [
    {
      name: 'sql01.corp.example',
      aliases: [],
      address: '127.77.255.206',
      ports: [
        { port: 1433, connection: 'c0' },
        { port: 5432, connection: 'c1' },
      ],
    },
    {
      name: 'web.corp.example',
      aliases: [],
      address: '127.77.182.227',
      ports: [{ port: 443, connection: 'c2' }],
    },
  ]);
  const text = readFileSync(place.hosts, 'latin1');
  assert.equal(text, `${(printed['block'] as string[]).join('\r\n')}\r\n${HOSTS}`);
  assert.deepEqual(
    readHostsText(text, 'relay.example.com/gateway-1').own?.map(({ address }) => address),
    ['127.77.255.206', 'fe80::7f4d:ffce', '127.77.182.227', 'fe80::7f4d:b6e3'],
  );
  const before = statSync(place.hosts);
  assert.equal(json(await place.run('apply'))['changed'], false);
  assert.equal(statSync(place.hosts).ino, before.ino, 'what is right is not written again');
  assert.equal(json(await place.run('print'))['standing'], 'applied');

  place.gateway('gateway-1', ['sql01.corp.example:1433']);
  assert.equal(json(await place.run('print'))['standing'], 'differs');
  json(await place.run('apply'));
  assert.doesNotMatch(readFileSync(place.hosts, 'latin1'), /web\.corp/);
  assert.equal(json(await place.run('remove'))['changed'], true);
  assert.equal(readFileSync(place.hosts, 'latin1'), HOSTS);
  assert.equal(json(await place.run('remove'))['changed'], false);
});

test('who may not write is told so; what root assigns belongs to the owner of the state', async (t) => {
  const place = makePlace(t);
  const config = place.gateway('gateway-1', ['sql01.corp.example:1433']);
  const state = join(place.directory, 'state-gateway-1');
  mkdirSync(state, { mode: 0o700 });
  chownSync(state, 65_534, 65_534);
  json(await place.run('apply'));
  assert.equal(statSync(join(state, 'names.json')).uid, 65_534);
  json(await place.run('remove'));
  chmodSync(config, 0o644);
  const args = ['--reuid=65534', '--regid=65534', '--clear-groups', '--', process.execPath, sallyportProgram];
  const as = (verb: string): Promise<CommandResult> =>
    runCommand('setpriv', [...args, '--json', 'hosts', verb, '-c', config, '--file', place.hosts]);
  assert.equal(json(await as('print'))['standing'], 'absent');
  const refused = await as('apply');
  assert.equal(refused.code, 2, refused.stderr);
  assert.equal(errorOf(refused).code, 'ERR_HOSTS_FILE');
  assert.match(errorOf(refused).message, /this user may not; run the command as root/);
  assert.equal(readFileSync(place.hosts, 'latin1'), HOSTS);
});

test('people see a table, and that the gateway is not there yet', async (t) => {
  const place = makePlace(t);
  place.gateway('gateway-1', ['sql01.corp.example:1433', 'sql01.corp.example:5432']);
  const applied = await place.run('apply', { json: false });
  assert.match(
    applied.stdout,
    /^NAME +ADDRESS +PORT AND CONNECTION\nsql01\.corp\.example +127\.77\.255\.206 +1433 c0, 5432 c1\n/,
  );
  assert.match(applied.stderr, /the gateway does not answer: until it runs, these names lead to nobody/);
  const checked = await sallyport(['check', '-c', join(place.directory, 'gateway-1.yaml')]);
  assert.equal(checked.code, 0, checked.stderr);
  assert.match(
    checked.stdout,
    /a valid gateway configuration\nNAME +ADDRESS .*\nsql01\.corp\.example +127\.77\.255\.206 /,
  );
  const status = await sallyport(['--json', 'status', '-c', join(place.directory, 'gateway-1.yaml')]);
  assert.equal(status.code, 3);
  assert.equal(errorOf(status).code, 'ERR_CLI_GATEWAY_UNREACHABLE');
});
