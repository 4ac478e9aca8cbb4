import assert from 'node:assert/strict';
import { test } from 'node:test';
import { carrierChoices, controlPorts, portsOf } from '../../../src/protocol/carrier/choice.ts';

const text = (node: Parameters<typeof carrierChoices>[0]): string =>
  carrierChoices(node)
    .map(({ kind, port }) => `${kind} ${port}`)
    .join(', ');

test('carriers in order: TCP at each data port, then the WebSocket', () => {
  const host = 'relay.test';
  const whole = { host, control_port: [5671, 443], data_ports: [9352, 443] };
  assert.deepEqual(controlPorts(whole), [5671, 443]);
  assert.equal(text(whole), 'tcp 9352, tcp 443, websocket 443');
  assert.deepEqual(portsOf(whole), [5671, 443, 9352]);
  assert.equal(text({ host, control_port: 5671, data_ports: [9352] }), 'tcp 9352, websocket 5671');
  assert.equal(text({ host, control_port: 7000, data_ports: [7000] }), 'tcp 7000, websocket 7000');
  assert.equal(text({ host, control_port: 443, data_ports: [9352] }), 'tcp 9352, websocket 443');
  assert.equal(text({ ...whole, websocket_port: 8443 }), 'tcp 9352, tcp 443, websocket 8443');
});
