import { gunzipSync, gzipSync } from 'node:zlib';

/** The header of one more entry, put before the end of an archive. */
export const withEntry = (tarGz: Buffer, name: string, type: string): Buffer => {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write('0000644\0', 100);
  header.write('00000000000\0', 124);
  header.write(type, 156);
  header.write('/etc/passwd', 157);
  header.write('ustar\x0000', 257, 'latin1');
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return gzipSync(Buffer.concat([header, gunzipSync(tarGz)]));
};

/** Ten GiB in ten MiB: members of 256 MiB of zeroes, one after the other. */
const BOMB_MEMBER_BYTES = 256 * 1024 * 1024;
const BOMB_MEMBERS = 40;
export const bomb = (): Buffer =>
  Buffer.concat(new Array<Buffer>(BOMB_MEMBERS).fill(gzipSync(Buffer.alloc(BOMB_MEMBER_BYTES))));

/**
 * `(module (func (loop br 0)) (start 0))`: instantiating it never returns (WebAssembly core specification, 5.5).
 */
export const ENDLESS_START = Buffer.from(
  '0061736d01000000' + // magic, version
    '010401600000' + // one type: no parameters, no results
    '03020100' + // one function of it
    '080100' + // which is the start function
    '0a0901070003400c000b0b', // its body: loop, br 0, end, end
  'hex',
);
