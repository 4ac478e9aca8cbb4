import { type CallEnd, writeCallEnd } from './call-end.ts';
import { Cursors } from './cursors.ts';
import { type Account, Logon } from './logon.ts';
import { DATA_TYPES, dataTypesAnswer, PROTOCOL, protocolAnswer } from './negotiation.ts';
import { DATA, DATA_FLAGS_BYTES, type PacketStream } from './packets.ts';
import { readExecution } from './statements.ts';
import { TtcReader, TtcWriter } from './ttc.ts';

/** Messages, by the first byte. */
const FUNCTION = 3;
/** A function without an answer, before the one that is meant. */
const PIGGYBACK = 17;

const FETCH = 5;
const LOGOFF = 9;
const EXECUTE = 0x5e;
const CLOSE_CURSORS = 0x69;
const LOGON_SECOND = 0x73;
const LOGON_FIRST = 0x76;

/** Over the functions that the driver calls along with another. */
const readKind = (asked: TtcReader): number => {
  const kind = asked.byte();
  if (kind !== PIGGYBACK) return kind;
  const code = asked.byte();
  if (code !== CLOSE_CURSORS) throw new Error(`piggyback ${code}`);
  asked.raw(2);
  for (let left = asked.number(); left > 0; left--) asked.number();
  return readKind(asked);
};

/**
 * Speaks with a driver whose CONNECT has been accepted, until it ends: negotiation, logon, statements.
 *
 * @param session its number, which it can be asked for
 * @throws for what the scripted database does not know
 */
export const serveSession = async (
  stream: PacketStream,
  account: Account,
  session: number,
): Promise<void> => {
  const logon = new Logon(account);
  const cursors = new Cursors(session);

  const call = (asked: TtcReader): Buffer => {
    const code = asked.byte();
    const end: CallEnd = { call: asked.byte() };
    const answer = new TtcWriter();
    if (code === LOGON_FIRST) logon.first(asked, answer, end);
    else if (code === LOGON_SECOND) logon.second(asked, answer, end);
    else if (code === LOGOFF) writeCallEnd(answer, end);
    else if (!logon.isIn) throw new Error(`function ${code} before the logon`);
    else if (code === EXECUTE) cursors.execute(answer, readExecution(asked), end);
    else if (code === FETCH) cursors.fetch(answer, asked.number(), asked.number(), end);
    else throw new Error(`function ${code}`);
    return answer.end();
  };

  for (let packet = await stream.read(); packet !== undefined; packet = await stream.read()) {
    if (packet.type !== DATA) throw new Error(`a packet of type ${packet.type}`);
    const asked = new TtcReader(packet.body.subarray(DATA_FLAGS_BYTES));
    // With nothing in it: the driver is about to end.
    if (asked.left === 0) return;
    const kind = readKind(asked);
    if (kind === PROTOCOL) stream.writeData(protocolAnswer(asked));
    else if (kind === DATA_TYPES) stream.writeData(dataTypesAnswer(asked));
    else if (kind === FUNCTION) stream.writeData(call(asked));
    else throw new Error(`message ${kind}`);
  }
};
