/** Cuts a chain behind a batch so that nothing of it says that there was more. */
export const cutBehind = (chain: string, batch: number): string[] => [
  `delete from audit.event where chain_id = '${chain}' and seq > (select last_seq from audit.seal where chain_id = '${chain}' and batch_no = ${batch})`,
  `delete from audit.seal_leaves where chain_id = '${chain}' and batch_no > ${batch}`,
  `delete from audit.seal where chain_id = '${chain}' and batch_no > ${batch}`,
  `update audit.chain as k set last_batch = s.batch_no, last_seq = s.last_seq, head = s.seal, final = s.final,
     events = s.last_seq, dropped = 0
   from audit.seal as s where k.chain_id = '${chain}' and s.chain_id = k.chain_id and s.batch_no = ${batch}`,
];
