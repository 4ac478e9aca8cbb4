import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gatewayConfigSchema } from '../../../src/gateway/index.ts';
import { namedHosts } from '../../../src/gateway/names/named-hosts.ts';
import { ConfigError, parseConfig } from '../../../src/runtime/index.ts';

const HEAD = `namespace: relay.example.com
name: gateway-1
state_dir: state
relays:
  - { host: relay.corp.example, control_port: 5671, data_ports: [9352] }
status: { listen: "127.0.0.1:9403" }
connections:
`;
/** Line of the first connection. */
const FIRST_LINE = 8;

const connection = (name: string, rest: string): string =>
  `  - { name: ${name}, connection_string: x, ${rest} }\n`;

/** `LINE:COLUMN MESSAGE` of every problem. */
const problemsOf = (...connections: string[]): string[] => {
  try {
    parseConfig(HEAD + connections.join(''), '/etc/gateway.yaml', gatewayConfigSchema, { environment: {} });
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems.map(({ line, column, message }) => `${line}:${column} ${message}`);
  }
};

/** The one problem of one connection. */
const problemOf = (rest: string): string => {
  const problems = problemsOf(connection('db', rest));
  assert.equal(problems.length, 1, problems.join('\n'));
  return problems[0] ?? '';
};

test('a connection may be reached under its name, at an address, or both', () => {
  assert.deepEqual(
    problemsOf(
      connection('a', 'target: "sql01.corp.example:1433", transparent: true'),
      connection(
        'b',
        'target: "sql01.corp.example:5432", transparent: true, aliases: [sql01], listen: "127.0.0.1:1"',
      ),
      connection('c', 'target: "10.0.0.1:1433", listen: "127.0.0.1:2"'),
    ),
    [],
  );
});

test('two connections with one host and port are an error at the place of the second, however they are written', () => {
  assert.deepEqual(
    problemsOf(
      connection('a', 'target: "SQL01.corp.example:1433", transparent: true'),
      connection('b', 'target: "sql01.corp.example.:1433", listen: "127.0.0.1:2"'),
    ),
    [
      `${FIRST_LINE + 1}:46 connections.1.target: another connection of this gateway has the target sql01.corp.example:1433`,
    ],
  );
});

test('what cannot be a transparent name is refused with what to do', () => {
  const named = (target: string): string => problemOf(`target: "${target}", transparent: true`);
  for (const address of ['10.0.0.1', '[2001:db8::1]', '127.1', '2130706433', '0x7f.0x1', 'host.0x']) {
    assert.match(
      named(`${address}:5432`),
      /^8:47 connections\.0\.target: .* is an address, .* or leave out transparent/,
    );
  }
  for (const own of ['localhost', 'LOCALHOST.', 'localhost.localdomain', 'ip6-loopback', 'broadcasthost']) {
    assert.match(named(`${own}:5432`), /is a name of the machine itself; leave out transparent/);
  }
  for (const name of ['db.localhost', 'db.invalid', 'x.onion', '1.10.in-addr.arpa']) {
    assert.match(
      named(`${name}:5432`),
      /reserved and resolvers answer them themselves; leave out transparent/,
    );
  }
  assert.match(named('a..b:5432'), /a part between dots is empty/);
  assert.match(
    named(`${'a'.repeat(64)}.example:5432`),
    /aaaaaaaaaaaaaaaa… has 64 characters, a part has at most 63/,
  );
  assert.match(named('db.example:0'), /a target is HOST:PORT/);
  assert.match(named('db.example'), /a target is HOST:PORT/);
  assert.match(named('relay.corp.example:5432'), /is a relay of this gateway, which would then dial itself/);
});

test('an entrance that is missing or in the way is refused', () => {
  assert.match(problemOf('eager: true'), /nothing leads to connection/);
  assert.match(problemOf('transparent: true'), /transparent: which name\? give target: HOST:PORT/);
  assert.match(problemOf('listen: "127.77.0.5:80"'), /127\.77\.0\.0\/16 is for transparent names/);
  assert.match(
    problemOf('listen: "127.0.0.1:1", aliases: [db]'),
    /aliases: aliases are further names of a transparent/,
  );
  assert.match(
    problemsOf(
      connection('a', 'target: "db.example:5432", transparent: true'),
      connection('b', 'listen: "0.0.0.0:5432"'),
    ).join(),
    /^8:46 connections\.0\.target: connection b listens on every address at port 5432/,
  );
});

test('a name belongs to one host', () => {
  assert.match(
    problemsOf(
      connection('a', 'target: "db1.example:1", transparent: true, aliases: [db]'),
      connection('b', 'target: "db2.example:1", transparent: true, aliases: [other, DB]'),
    ).join(),
    /^9:\d+ connections\.1\.aliases\.1: 'DB' is a name of db1\.example already$/,
  );
  assert.match(
    problemOf('target: "db1.example:1", transparent: true, aliases: ["a b"]'),
    /"a b" is not a host name/,
  );
  assert.match(
    problemOf('target: "db1.example:1", transparent: true, aliases: [relay.corp.example]'),
    /dial itself/,
  );
});

test('a host has one address for all its ports, and its fullest name first', () => {
  assert.deepEqual(
    namedHosts([
      { name: 'a', target: 'db:5432', transparent: true, aliases: ['DB.corp.example', 'db.example'] },
      { name: 'b', target: 'web.example:443', transparent: true },
      { name: 'c', target: 'DB.:1433', transparent: true, aliases: ['db.example'] },
      { name: 'd', target: 'pinned.example:1' },
    ]),
    [
      {
        host: 'db',
        names: ['db.corp.example', 'db.example', 'db'],
        ports: [
          { port: 5432, connection: 'a' },
          { port: 1433, connection: 'c' },
        ],
      },
      { host: 'web.example', names: ['web.example'], ports: [{ port: 443, connection: 'b' }] },
    ],
  );
});
