import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { needsLowPorts, writableBeside } from '../../src/cli/service/places.ts';
import { unitText } from '../../src/cli/service/unit.ts';
import { MALLOC_SETTINGS, NODE_FLAGS } from '../../src/runtime/index.ts';
import { missingPrograms, runCommand, sallyport } from '../support/command.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';

/** What `systemd-analyze security` may give, in tenths: from 0, nothing is exposed, to 100. */
const EXPOSURE_LIMIT = 20;

const gatewayConfig = (t: Closer, listen: string, state = '/var/lib/sallyport/gateway'): string => {
  const file = join(temporaryDirectory(t, 'unit'), 'gateway.yaml');
  writeFileSync(
    file,
    `namespace: relay.example.com
name: gateway-1
state_dir: ${state}
relays: [{host: relay.example.com, control_port: 5671, data_ports: [9352]}]
connections: [{name: shop, connection_string: none, listen: "${listen}"}]
status: {listen: "127.0.0.1:9363"}
`,
  );
  return file;
};

const printed = async (file: string): Promise<string> => {
  const { code, stdout, stderr } = await sallyport(['gateway', 'install', '-c', file, '--print']);
  assert.equal(code, 0, stderr);
  return stdout;
};

test('the unit has no capability, unless the configuration listens on a port below 1024', async (t) => {
  const plain = await printed(gatewayConfig(t, '127.0.0.1:15000'));
  assert.match(plain, /^CapabilityBoundingSet=$/m);
  assert.match(plain, /^AmbientCapabilities=$/m);
  assert.match(plain, /^PrivateUsers=yes$/m);
  const low = await printed(gatewayConfig(t, '127.0.0.1:443'));
  assert.match(low, /^CapabilityBoundingSet=CAP_NET_BIND_SERVICE$/m);
  assert.match(low, /^AmbientCapabilities=CAP_NET_BIND_SERVICE$/m);
  // A capability in a user namespace binds no port of the machine.
  assert.match(low, /^PrivateUsers=no$/m);
  // V8 could not compile.
  assert.match(plain, /^MemoryDenyWriteExecute=no$/m);
});

test('low ports and writable directories are found wherever the configuration has them', () => {
  assert.equal(needsLowPorts({ listen: ['0.0.0.0:5671', '[::]:443'] }), true);
  assert.equal(needsLowPorts({ a: [{ b: { listen: '127.0.0.1:1023' } }] }), true);
  assert.equal(
    needsLowPorts({ listen: '127.0.0.1:1024', status: { listen: '127.0.0.1:0' }, target: 'x:443' }),
    false,
  );
  const config = {
    state_dir: '/var/lib/sallyport/agent',
    audit: {
      spool_dir: '/var/lib/sallyport/agent/spool',
      jsonl_dir: '/srv/evidence/jsonl',
      checkpoint_file: '/srv/evidence/jsonl/points/checkpoints.jsonl',
      key_file: '/etc/sallyport/audit.key',
    },
    other_dir: '/var/lib/sallyport/agents-not-below',
  };
  assert.deepEqual(writableBeside(config, '/var/lib/sallyport/agent'), [
    '/srv/evidence/jsonl',
    '/var/lib/sallyport/agents-not-below',
  ]);
});

test('what does not show in a score: its user, no new privileges, drain, no restart of a wrong configuration', () => {
  const plan = { name: 'relay', node: '/usr/bin/node', program: '/p', config: '/c' } as const;
  const lines = unitText({ ...plan, needsLowPorts: false, writable: [] }).split('\n');
  for (const line of [
    'User=sallyport-relay',
    'Group=sallyport-relay',
    'NoNewPrivileges=yes',
    'ProtectSystem=strict',
    'StateDirectory=sallyport/relay',
    'UMask=0077',
    'KillMode=mixed',
    'Restart=on-failure',
    'RestartPreventExitStatus=2',
    'SystemCallFilter=@system-service',
    'SystemCallFilter=~@privileged @resources',
  ])
    assert.ok(lines.includes(line), line);
});

test('systemd takes the units and finds little exposed', async (t) => {
  const missing = missingPrograms({ 'systemd-analyze': 'systemd' });
  if (missing !== false) {
    t.skip(missing);
    return;
  }
  const directory = temporaryDirectory(t, 'units');
  for (const name of ['relay', 'agent', 'gateway'] as const) {
    const file = join(directory, `sallyport-${name}.service`);
    const writable = ['/var/log'];
    const plan = { name, node: process.execPath, program: '/usr/bin/true', config: '/etc/passwd' };
    writeFileSync(file, unitText({ ...plan, needsLowPorts: true, writable }));
    const verified = await runCommand('systemd-analyze', ['verify', '--man=no', file]);
    // Units of the machine that are wrong are not ours.
    const ours = verified.stderr.split('\n').filter((line) => line.includes('sallyport'));
    assert.deepEqual(ours, []);
    assert.equal(verified.code, 0, verified.stderr);
    const options = ['security', '--offline=true', '--no-pager', `--threshold=${String(EXPOSURE_LIMIT)}`];
    const judged = await runCommand('systemd-analyze', [...options, file]);
    assert.equal(judged.code, 0, judged.stdout);
  }
});

test('paths are quoted as systemd wants them, and the memory settings are those of bin/sallyport', () => {
  const text = unitText({
    name: 'agent',
    node: '/opt/node 20/bin/node',
    program: '/usr/lib/sallyport/bin/sallyport',
    config: '/etc/50%/$HOME "x".yaml',
    needsLowPorts: false,
    writable: ['/srv/two words'],
  });
  const start = `ExecStart="/opt/node 20/bin/node" ${NODE_FLAGS.join(' ')} /usr/lib/sallyport/bin/sallyport agent -c "/etc/50%%/$$HOME \\"x\\".yaml"`;
  assert.ok(text.split('\n').includes(start), text);
  assert.match(text, /^ReadWritePaths="\/srv\/two words"$/m);
  for (const [name, value] of Object.entries(MALLOC_SETTINGS))
    assert.ok(text.includes(`\nEnvironment=${name}=${value}\n`));
});

test('install writes a unit that everybody may read, again over its own, and over no other', async (t) => {
  const units = temporaryDirectory(t, 'systemd');
  const file = join(units, 'sallyport-gateway.service');
  const install = (config: string) =>
    sallyport(['--json', 'gateway', 'install', '-c', config, '--unit-dir', units]);
  const first = await install(gatewayConfig(t, '127.0.0.1:15000', '/srv/sallyport-state'));
  assert.equal(first.code, 0, first.stderr);
  const told = JSON.parse(first.stdout) as { file: string; user: string; commands: string[] };
  assert.equal(told.file, file);
  assert.equal(told.user, 'sallyport-gateway');
  assert.ok(told.commands.includes('systemctl daemon-reload'));
  assert.ok(told.commands.some((line) => line.endsWith(' /srv/sallyport-state')));
  assert.equal(statSync(file).mode & 0o777, 0o644);
  assert.match(readFileSync(file, 'utf8'), /^ReadWritePaths=\/srv\/sallyport-state$/m);
  // The configuration is in a temporary directory, which a service does not see.
  assert.match(first.stderr, /PrivateTmp/);
  assert.equal((await install(gatewayConfig(t, '127.0.0.1:443'))).code, 0);
  assert.match(readFileSync(file, 'utf8'), /CAP_NET_BIND_SERVICE/);
  writeFileSync(file, '[Unit]\nDescription=of somebody else\n');
  const refused = await install(gatewayConfig(t, '127.0.0.1:443'));
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /ERR_CLI_UNIT/);
  assert.equal(readFileSync(file, 'utf8'), '[Unit]\nDescription=of somebody else\n');
});

test('nothing is written for a wrong configuration, for that of another process, or where nothing can be', async (t) => {
  const units = temporaryDirectory(t, 'systemd');
  const config = gatewayConfig(t, 'nonsense');
  const wrong = await sallyport(['gateway', 'install', '-c', `${config}.not-there`, '--unit-dir', units]);
  assert.equal(wrong.code, 2);
  const other = await sallyport(['agent', 'install', '-c', config, '--unit-dir', units]);
  assert.equal(other.code, 2);
  assert.match(other.stderr, /a gateway configuration/);
  const full = join(units, 'a-file');
  writeFileSync(full, '');
  const nowhere = await sallyport([
    'gateway',
    'install',
    '-c',
    gatewayConfig(t, '127.0.0.1:15000'),
    '--unit-dir',
    full,
  ]);
  assert.equal(nowhere.code, 2);
  assert.match(nowhere.stderr, /ERR_CLI_UNIT/);
});
