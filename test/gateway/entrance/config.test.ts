import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gatewayConfigSchema } from '../../../src/gateway/index.ts';
import { ConfigError, parseConfig } from '../../../src/runtime/index.ts';

const REST = `namespace: n
name: gw
state_dir: s
relays: [{host: relay.test, control_port: 443, data_ports: [443]}]
status: {listen: '127.0.0.1:0'}
`;
const PASSWORD = 'a password of the tests';

const read = (text: string) =>
  parseConfig(`${text}\n${REST}`, '/etc/gateway.yaml', gatewayConfigSchema, {
    environment: { APP_PASSWORD: PASSWORD },
  });

const problemsOf = (text: string): string[] => {
  try {
    read(text);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems.map(({ line, message }) => `${line}: ${message}`);
  }
};

const DB =
  "connections:\n  - {name: db, connection_string: x, listen: '127.0.0.1:1', target: 'sql01.corp.example:1433'}";

test('entrances are read, with users from the environment and connections that have no listener of their own', () => {
  const config = read(`connections:
  - {name: db, connection_string: x, target: 'bücher.example.:1433'}
  - {name: shop, connection_string: x, listen: '10.0.0.1:80', clients: [10.0.0.0/8, 'fd00::/64']}
socks5:
  - listen: 0.0.0.0:1080
    clients: [0.0.0.0/0, '::/0']
    connections: [db]
    users: [{name: app, password: '\${APP_PASSWORD}'}]
http_connect:
  - listen: '[::1]:8080'`);
  assert.equal(config.socks5[0]?.users?.[0]?.password, PASSWORD);
  assert.deepEqual(config.http_connect, [{ listen: '[::1]:8080' }]);
  assert.deepEqual(read(DB).socks5, []);
});

test('what is wrong with an entrance is said at its place, with the remedy', () => {
  const cases: [string, string[]][] = [
    [
      "connections:\n  - {name: db, connection_string: x, listen: '0.0.0.0:1'}",
      [
        "2: connections.0.listen: 0.0.0.0:1 is not an address of loopback: say in clients who may connect, like [10.1.0.0/16], or [0.0.0.0/0, '::/0'] for everybody",
      ],
    ],
    [
      `${DB}\nsocks5:\n  - listen: gateway.corp.example:1080`,
      [
        "4: socks5.0.listen: gateway.corp.example:1080 is not an address of loopback: say in clients who may connect, like [10.1.0.0/16], or [0.0.0.0/0, '::/0'] for everybody",
      ],
    ],
    [
      `${DB}\nhttp_connect:\n  - listen: '127.0.0.1:1'`,
      ['4: http_connect.0.listen: something else of this gateway already listens on 127.0.0.1:1'],
    ],
    [
      `${DB}\nsocks5:\n  - {listen: '127.0.0.1:2', clients: [10.0.0.5/8]}`,
      ['4: socks5.0.clients.0: "10.0.0.5/8" has bits behind its prefix; the range is 10.0.0.0/8'],
    ],
    [
      `${DB}\nsocks5:\n  - {listen: '127.0.0.1:2', connections: [bd]}`,
      ['4: socks5.0.connections.0: no connection bd is here, did you mean db?'],
    ],
    [
      `${DB}\nsocks5:\n  - {listen: '127.0.0.1:2', users: [{name: app, password: short}]}`,
      ['4: socks5.0.users.0.password: too small: expected string to have >=16 characters'],
    ],
    [
      `${DB}\nsocks5:\n  - {listen: '127.0.0.1:2', users: [{name: a, password: ${PASSWORD}}, {name: a, password: ${PASSWORD}}]}`,
      ['4: socks5.0.users.1.name: user a is there twice'],
    ],
    [
      `${DB}\nsocks5:\n  - {listen: '127.0.0.1:2', users: [{name: 'a:b', password: ${PASSWORD}}]}`,
      ['4: socks5.0.users.0.name: letters, digits and ._@-, at most 63'],
    ],
    [
      'connections:\n  - {name: db, connection_string: x}',
      [
        '2: connections.0: nothing leads to connection db: it has no listen, is not transparent, and no entry of socks5 or http_connect has it',
      ],
    ],
    [
      "connections:\n  - {name: db, connection_string: x, clients: [127.0.0.1]}\nsocks5:\n  - listen: '127.0.0.1:2'",
      ['2: connections.0.clients: clients without listen restrict nothing'],
    ],
    [
      `${DB}\n  - {name: db2, connection_string: x, listen: '127.0.0.1:2', target: 'SQL01.corp.example.:1433'}`,
      ['3: connections.1.target: another connection of this gateway has the target sql01.corp.example:1433'],
    ],
    [
      `${DB}\n  - {name: sql, connection_string: x, listen: '127.0.0.1:2', target: 'DB:5432'}`,
      [
        '3: connections.1.target: db is the name of another connection as well: an application that asks for it could mean either',
      ],
    ],
    [
      "connections:\n  - {name: db, connection_string: x, listen: '127.0.0.1:1', target: sql01}",
      ['2: connections.0.target: a target is HOST:PORT, like sql01.corp.example:1433 or [fd00::7]:1433'],
    ],
    [
      "connections:\n  - {name: db, connection_string: x, listen: '127.0.0.1:1', target: 'sql01:0'}",
      ['2: connections.0.target: a target is HOST:PORT, like sql01.corp.example:1433 or [fd00::7]:1433'],
    ],
  ];
  for (const [text, expected] of cases) assert.deepEqual(problemsOf(text), expected, text);
});

test('no problem shows a password', () => {
  const [problem = ''] = problemsOf(
    `${DB}\nsocks5:\n  - {listen: '127.0.0.1:2', users: [{name: app, password: ${'é'.repeat(128)}}]}`,
  );
  assert.match(problem, /a password has at most 255 bytes/);
  assert.doesNotMatch(problem, /é/);
});
