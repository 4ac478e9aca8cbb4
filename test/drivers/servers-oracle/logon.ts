import { type CallEnd, writeCallEnd } from './call-end.ts';
import { Challenge } from './o5logon.ts';
import { PARAMETERS } from './statements.ts';
import type { TtcReader, TtcWriter } from './ttc.ts';

export interface Account {
  /** In capitals, as drivers send it. */
  readonly user: string;
  readonly password: string;
}

/** What a driver reads of the session that it gets; 12.1.0.2. */
const SESSION: Readonly<Record<string, string>> = {
  AUTH_VERSION_STRING: '- scripted',
  AUTH_VERSION_SQL: '25',
  AUTH_XACTION_TRAITS: '3',
  AUTH_VERSION_NO: String(0x0c_10_02_00),
  AUTH_VERSION_STATUS: '0',
  AUTH_CAPABILITY_TABLE: '',
  AUTH_DBNAME: 'ORDERS',
  AUTH_SESSION_ID: '17',
  AUTH_SERIAL_NUM: '1',
  AUTH_INSTANCE_NO: '1',
};

const DENIED = { code: 1017, text: 'invalid username/password; logon denied' };

/** The user with the other things that a driver says of itself. */
const readPairs = (asked: TtcReader): ReadonlyMap<string, string> => {
  asked.byte();
  const userBytes = asked.number();
  asked.number();
  asked.byte();
  const count = asked.number();
  asked.raw(2);
  const pairs = new Map([['user', asked.raw(userBytes).toString('utf8')]]);
  for (let n = 0; n < count; n++) pairs.set(...asked.pair());
  return pairs;
};

/** Both steps of one driver's logon. */
export class Logon {
  readonly #account: Account;
  readonly #challenge: Challenge;
  #isIn = false;

  constructor(account: Account) {
    this.#account = account;
    this.#challenge = new Challenge(account.password);
  }

  get isIn(): boolean {
    return this.#isIn;
  }

  first(asked: TtcReader, answer: TtcWriter, end: CallEnd): void {
    readPairs(asked);
    const { told } = this.#challenge;
    answer.bytes(PARAMETERS).number(told.length);
    for (const [key, value, flags] of told) answer.pair(key, value, flags);
    writeCallEnd(answer, end);
  }

  second(asked: TtcReader, answer: TtcWriter, end: CallEnd): void {
    const pairs = readPairs(asked);
    const given = (key: string): string => pairs.get(key) ?? '';
    const proof = this.#challenge.answer(given('AUTH_SESSKEY'), given('AUTH_PASSWORD'));
    if (proof === undefined || given('user') !== this.#account.user) {
      writeCallEnd(answer, { ...end, refusal: DENIED });
      return;
    }
    this.#isIn = true;
    const told = Object.entries({ ...SESSION, AUTH_SVR_RESPONSE: proof });
    answer.bytes(PARAMETERS).number(told.length);
    for (const [key, value] of told) answer.pair(key, value);
    writeCallEnd(answer, end);
  }
}
