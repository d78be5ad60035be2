//! Admin commands (Base, section 5) for queues, identification, formats and aborts.

mod feature_commands;
mod log_commands;

use crate::command::Command;
use crate::config::FORMATS;
use crate::controller::Controller;
use crate::queue::{CompletionQueue, SubmissionQueue};
use crate::spec::admin_opcode::{
    ABORT, ASYNCHRONOUS_EVENT_REQUEST, CREATE_COMPLETION_QUEUE, CREATE_SUBMISSION_QUEUE,
    DELETE_COMPLETION_QUEUE, DELETE_SUBMISSION_QUEUE, FORMAT, GET_FEATURES, GET_LOG_PAGE, IDENTIFY,
    SET_FEATURES,
};
use crate::spec::{
    ALL_NAMESPACES, COMMAND_BYTES, COMPLETION_BYTES, ERROR_ENTRIES, EVENT_REQUESTS, FIRMWARE_REVISION,
    VENDOR, VERSION, WARNING_KELVIN,
};
use crate::status::{CommandResult, Status};

const MODEL_NUMBER: &str = "Coppice NVMe model";

impl Controller {
    /// Executes a command of the admin queue; returns `None` if it completes later.
    pub(crate) fn execute_admin(&mut self, command: &Command) -> Option<CommandResult> {
        if let Err(status) = command.check_flags() {
            return Some(Err(status));
        }
        Some(match command.opcode() {
            CREATE_COMPLETION_QUEUE => self.create_completion_queue(command),
            CREATE_SUBMISSION_QUEUE => self.create_submission_queue(command),
            DELETE_COMPLETION_QUEUE => self.delete_completion_queue(command),
            DELETE_SUBMISSION_QUEUE => self.delete_submission_queue(command),
            GET_LOG_PAGE => self.get_log_page(command),
            IDENTIFY => self.identify(command),
            ABORT => Ok(self.abort(command)),
            SET_FEATURES => self.set_features(command),
            GET_FEATURES => self.get_features(command),
            ASYNCHRONOUS_EVENT_REQUEST => return self.request_event(command),
            FORMAT => self.format(command),
            _ => Err(Status::INVALID_OPCODE),
        })
    }

    /// Create I/O Completion Queue (Base, section 5.4).
    fn create_completion_queue(&mut self, command: &Command) -> CommandResult {
        let (id, entries) = self.new_queue(command)?;
        if self.completion[id].is_some() {
            return Err(Status::INVALID_QUEUE_ID);
        }
        let entry_size = self.registers.configuration() >> 20 & 0xf;
        if 1 << entry_size != COMPLETION_BYTES {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        let interrupts = command.dword(11) >> 1 & 1 != 0;
        let vector = (command.dword(11) >> 16) as u16;
        if interrupts && vector > self.config.queues {
            return Err(Status::INVALID_VECTOR);
        }
        let base = self.queue_base(command)?;
        self.completion[id] = Some(CompletionQueue::new(base, entries, interrupts.then_some(vector)));
        self.registers.connect(2 * id + 1, entries);
        Ok(0)
    }

    /// Create I/O Submission Queue (Base, section 5.5).
    fn create_submission_queue(&mut self, command: &Command) -> CommandResult {
        let (id, entries) = self.new_queue(command)?;
        if self.submission[id].is_some() {
            return Err(Status::INVALID_QUEUE_ID);
        }
        let entry_size = self.registers.configuration() >> 16 & 0xf;
        if 1 << entry_size != COMMAND_BYTES {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        let cq = (command.dword(11) >> 16) as u16;
        if cq == 0 || cq > self.config.queues {
            return Err(Status::INVALID_QUEUE_ID);
        }
        let base = self.queue_base(command)?;
        let queue = self.completion[usize::from(cq)].as_mut().ok_or(Status::COMPLETION_QUEUE_INVALID)?;
        queue.users += 1;
        self.submission[id] = Some(SubmissionQueue::new(base, entries, cq));
        self.registers.connect(2 * id, entries);
        Ok(0)
    }

    /// Checks QID and QSIZE of dword 10; returns the id and the number of entries.
    fn new_queue(&self, command: &Command) -> Result<(usize, u32), Status> {
        let id = command.dword(10) & 0xffff;
        if id == 0 || id > u32::from(self.config.queues) {
            return Err(Status::INVALID_QUEUE_ID);
        }
        let size = command.dword(10) >> 16;
        if size == 0 || size > u32::from(self.config.mqes) {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        Ok((id as usize, size + 1))
    }

    /// Checks PRP1 of a queue, which must be contiguous (CAP.CQR) and begin at a page.
    fn queue_base(&self, command: &Command) -> Result<u64, Status> {
        if command.dword(11) & 1 == 0 {
            return Err(Status::INVALID_FIELD);
        }
        let base = command.prp1();
        // A whole queue lies within the address space, so that no address in it overflows.
        let last = u64::from(u16::MAX) * 64 + 64;
        if !base.is_multiple_of(self.page_bytes) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        base.checked_add(last).map(|_| base).ok_or(Status::INVALID_FIELD)
    }

    /// Delete I/O Completion Queue (Base, section 5.6).
    fn delete_completion_queue(&mut self, command: &Command) -> CommandResult {
        let id = (command.dword(10) & 0xffff) as usize;
        let queue = self.completion.get(id).filter(|_| id != 0).and_then(Option::as_ref);
        if queue.ok_or(Status::INVALID_QUEUE_ID)?.users > 0 {
            return Err(Status::INVALID_QUEUE_DELETION);
        }
        self.registers.connect(2 * id + 1, 0);
        self.completion[id] = None;
        Ok(0)
    }

    /// Delete I/O Submission Queue (Base, section 5.7). Completes commands that were not begun as aborted
    /// first.
    fn delete_submission_queue(&mut self, command: &Command) -> CommandResult {
        let id = (command.dword(10) & 0xffff) as usize;
        let queue = self.submission.get(id).filter(|_| id != 0).and_then(Option::as_ref);
        let cq = usize::from(queue.ok_or(Status::INVALID_QUEUE_ID)?.cq);
        self.registers.connect(2 * id, 0);
        for aborted in self.schedule.take_queue(id as u16) {
            self.complete_id(id as u16, aborted, Err(Status::ABORTED_BY_SQ_DELETION), 0);
        }
        self.submission[id] = None;
        if let Some(queue) = &mut self.completion[cq] {
            queue.users -= 1;
        }
        Ok(0)
    }

    /// Abort (Base, section 5.1). Bit 0 of the result is clear if the command was aborted. Only commands that
    /// wait for their latency or for an event can be; all others complete within the call that fetches them.
    fn abort(&mut self, command: &Command) -> u32 {
        let sq = (command.dword(10) & 0xffff) as u16;
        let id = (command.dword(10) >> 16) as u16;
        let exists = self.submission.get(usize::from(sq)).is_some_and(Option::is_some);
        if exists && self.schedule.take_command(sq, id) {
            if let Some(queue) = &mut self.submission[usize::from(sq)] {
                queue.outstanding = queue.outstanding.saturating_sub(1);
            }
            self.complete_id(sq, id, Err(Status::ABORT_REQUESTED), 0);
            return 0;
        }
        if sq == 0 && self.abort_event_request(id) { 0 } else { 1 }
    }

    /// Format NVM (Base, section 5.14): zeroes a namespace and sets the format of bits 3:0.
    fn format(&mut self, command: &Command) -> CommandResult {
        let dword10 = command.dword(10);
        let format = (dword10 & 0xf) as usize;
        let protection = dword10 >> 5 & 7;
        let metadata_or_high = dword10 & (1 << 4 | 3 << 12);
        // SES: none or user data erase. Cryptographic erase is not supported.
        let erase = dword10 >> 9 & 7;
        if format >= FORMATS.len() || protection != 0 || metadata_or_high != 0 {
            return Err(Status::INVALID_FORMAT);
        }
        if erase > 1 {
            return Err(Status::INVALID_FIELD);
        }
        let range = if command.nsid() == ALL_NAMESPACES {
            0..self.namespaces.len()
        } else {
            let index = self.namespace_index(command)?;
            index..index + 1
        };
        for namespace in &mut self.namespaces[range] {
            let bytes = namespace.disk.bytes();
            namespace.disk.zero(0, bytes).map_err(|_| Status::INTERNAL_ERROR)?;
            namespace.format = format;
        }
        Ok(0)
    }

    /// Identify (Base, section 5.17).
    fn identify(&mut self, command: &Command) -> CommandResult {
        let page = match command.dword(10) & 0xff {
            0x00 if command.nsid() == ALL_NAMESPACES => self.identify_all_namespaces(),
            0x00 => {
                let index = self.namespace_index(command)?;
                self.identify_namespace(index)
            }
            0x01 => self.identify_controller(),
            0x02 => self.active_namespaces(command)?,
            0x03 => {
                let index = self.namespace_index(command)?;
                self.descriptors(index)
            }
            _ => return Err(Status::INVALID_FIELD),
        };
        self.write_data(command, &page)?;
        Ok(0)
    }

    /// CNS 01h (Base, section 5.17.2.1).
    fn identify_controller(&self) -> Vec<u8> {
        let mut page = vec![0; 4096];
        put16(&mut page, 0, VENDOR);
        put16(&mut page, 2, VENDOR);
        put_text(&mut page[4..24], &self.config.serial);
        put_text(&mut page[24..64], MODEL_NUMBER);
        page[64..72].copy_from_slice(&FIRMWARE_REVISION);
        page[77] = self.config.mdts;
        put32(&mut page, 80, VERSION);
        // OAES: namespace attribute notices.
        put32(&mut page, 92, 1 << 8);
        // CNTRLTYPE: I/O controller.
        page[111] = 1;
        // OACS: Format NVM.
        put16(&mut page, 256, 1 << 1);
        // ACL: four at once, counted from 0. They are executed one by one anyway.
        page[258] = 3;
        page[259] = (EVENT_REQUESTS - 1) as u8;
        // FRMW: one slot, read-only.
        page[260] = 1 << 1 | 1;
        // LPA: log of commands and effects, offsets and long lengths.
        page[261] = 1 << 1 | 1 << 2;
        page[262] = (ERROR_ENTRIES - 1) as u8;
        put16(&mut page, 266, WARNING_KELVIN);
        put16(&mut page, 268, WARNING_KELVIN + 10);
        // SQES and CQES: only 64 and 16 bytes.
        page[512] = 0x66;
        page[513] = 0x44;
        put32(&mut page, 516, self.namespaces.len() as u32);
        // ONCS: Compare, Dataset Management, Write Zeroes, and SEL of Get Features.
        put16(&mut page, 520, 1 | 1 << 2 | 1 << 3 | 1 << 4);
        // VWC: the presence of a cache, and Flush of all namespaces at once.
        page[525] = 0b110 | u8::from(self.config.cache_bytes > 0);
        put_text_unpadded(
            &mut page[768..1024],
            &format!("nqn.2026-11.org.coppice:model:{}", self.config.serial),
        );
        // Power state 0: 5 W at most, in units of 0.01 W.
        put16(&mut page, 2048, 500);
        page
    }

    /// CNS 00h for one namespace (NVM, section 4.1.5.1).
    fn identify_namespace(&self, index: usize) -> Vec<u8> {
        let namespace = &self.namespaces[index];
        let mut page = self.identify_all_namespaces();
        let blocks = namespace.blocks();
        // NSZE, NCAP, NUSE: there is no thin provisioning.
        for at in [0, 8, 16] {
            put64(&mut page, at, blocks);
        }
        page[26] = namespace.format as u8;
        page[104..120].copy_from_slice(&self.unique_id(index));
        page
    }

    /// CNS 00h for all namespaces: the fields that they have in common.
    fn identify_all_namespaces(&self) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[25] = (FORMATS.len() - 1) as u8;
        // DLFEAT: deallocated blocks read as zeros.
        page[33] = 1;
        for (format, bytes) in FORMATS.iter().enumerate() {
            // LBADS is a power of two; RP prefers larger blocks.
            page[128 + 4 * format + 2] = bytes.trailing_zeros() as u8;
            page[128 + 4 * format + 3] = if *bytes == 4096 { 0 } else { 1 };
        }
        page
    }

    /// CNS 02h: the ids of namespaces above the given one.
    fn active_namespaces(&self, command: &Command) -> Result<Vec<u8>, Status> {
        if command.nsid() >= ALL_NAMESPACES - 1 {
            return Err(Status::INVALID_NAMESPACE);
        }
        let mut page = vec![0; 4096];
        let ids = 1..=self.namespaces.len() as u32;
        let above = ids.filter(|nsid| *nsid > command.nsid());
        for (slot, nsid) in page.as_chunks_mut::<4>().0.iter_mut().zip(above) {
            *slot = nsid.to_le_bytes();
        }
        Ok(page)
    }

    /// CNS 03h: the identification descriptors of a namespace, NGUID and command set.
    fn descriptors(&self, index: usize) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[0] = 2;
        page[1] = 16;
        page[4..20].copy_from_slice(&self.unique_id(index));
        // CSI: the NVM command set, 0.
        page[20] = 4;
        page[21] = 1;
        page
    }

    /// NGUID, a function of the serial number and the namespace id.
    fn unique_id(&self, index: usize) -> [u8; 16] {
        let mut id = *b"coppice\0\0\0\0\0\0\0\0\0";
        // FNV-1a.
        let hash = self.config.serial.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        id[7..15].copy_from_slice(&hash.to_be_bytes());
        id[15] = index as u8 + 1;
        id
    }
}

fn put16(page: &mut [u8], at: usize, value: u16) {
    page[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put32(page: &mut [u8], at: usize, value: u32) {
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put64(page: &mut [u8], at: usize, value: u64) {
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Writes ASCII text, padded with spaces (Base, section 1.4.2).
fn put_text(field: &mut [u8], text: &str) {
    field.fill(b' ');
    put_text_unpadded(field, text);
}

/// Writes text, and leaves the rest of the field.
fn put_text_unpadded(field: &mut [u8], text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(field.len())];
    field[..bytes.len()].copy_from_slice(bytes);
}
