//! What does a frame of the peer do?
//!
//! [`Inner::receive`] takes whole frames off what was read and acts on them. A rule broken within a
//! stream ends the stream; one of the connection ends it (RFC 9113, section 5.4). Frames of streams that
//! have ended are ignored: they were on their way when the end was said.

use super::{Block, Frame, GOODBYE_PING, Inner, MAX_31, MIN_MAX_FRAME, Phase, Reason, Recv, Role, USER_PING};
use crate::http2::{
    error::{By, Error},
    frame::{self, HEAD, Head, PREFACE, flag, kind, number, setting},
    guard::MAX_CONTINUATIONS,
};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Bytes of one header block that comes in pieces: at least so many, and as many lists that are let pass.
/// What is beyond them is not decoded to its end.
const MIN_BLOCK: usize = 32 << 10;
const BLOCK_LISTS: usize = 4;

/// Pieces that nobody has read yet are joined up to so many bytes: each costs many times its bytes if it
/// is small.
const JOINED: usize = 4 << 10;

/// Keeps data until it is read.
fn collect(inbox: &mut VecDeque<Bytes>, data: &[u8]) {
    match inbox.back_mut() {
        Some(last) if last.len() + data.len() <= JOINED => {
            // Nobody else has it: this copies only what grows out of its memory.
            let mut joined = BytesMut::from(std::mem::take(last));
            joined.extend_from_slice(data);
            *last = joined.freeze();
        }
        _ => inbox.push_back(Bytes::copy_from_slice(data)),
    }
}

impl Inner {
    /// The client's preface was seen.
    pub(in super::super) const fn is_greeted(&self) -> bool {
        !self.awaits_preface
    }

    /// Acts on the frames that `bytes` begin with, and says how many bytes they took.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        if self.awaits_preface {
            let have = bytes.len().min(PREFACE.len());
            if bytes[..have] != PREFACE[..have] {
                self.give_up(Reason::PROTOCOL_ERROR);
                return bytes.len();
            }
            if have < PREFACE.len() {
                return 0;
            }
            self.awaits_preface = false;
            used = have;
        }
        while let Some(head) = Head::parse(&bytes[used..]) {
            if head.len > MIN_MAX_FRAME as usize {
                self.give_up(Reason::FRAME_SIZE_ERROR);
                return bytes.len();
            }
            let Some(payload) = bytes.get(used + HEAD..used + HEAD + head.len) else { break };
            used += HEAD + head.len;
            if let Err(reason) = self.frame(head, payload) {
                self.give_up(reason);
            }
            if self.phase == Phase::Broken {
                return bytes.len();
            }
        }
        used
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if self.block.is_some() && head.kind != kind::CONTINUATION {
            return Err(Reason::PROTOCOL_ERROR);
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.pinged(head, payload),
            kind::GOAWAY => self.goaway(head, payload),
            kind::PUSH_PROMISE => Err(Reason::PROTOCOL_ERROR),
            kind::PRIORITY if head.stream == 0 => Err(Reason::PROTOCOL_ERROR),
            kind::PRIORITY if payload.len() != 5 => Err(Reason::FRAME_SIZE_ERROR),
            // Priorities were given up, and unknown kinds are to be ignored.
            _ => self.guard.count(Frame::Idle, self.now_ms),
        }
    }

    /// The stream was never opened: no frame may speak of it.
    const fn is_idle(&self, id: u32) -> bool {
        match self.role {
            Role::Server => !self.role.is_peers(id) || id > self.last_id,
            Role::Client => self.role.is_peers(id) || id >= self.last_id,
        }
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        let (id, len) = (head.stream, payload.len());
        if id == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if !self.allowance.receive(len) {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        let data = frame::unpadded(head, payload)?;
        let Some(slot) = self.streams.find(id) else {
            if self.is_idle(id) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.release_connection(len);
            // A caller whose stream was refused may have sent a window full of pieces; bytes pay for
            // themselves.
            return if data.is_empty() { self.guard.count(Frame::Late, self.now_ms) } else { Ok(()) };
        };
        let end = head.has(flag::END_STREAM);
        let stream = self.streams.get_mut(slot);
        let wrong = match stream.recv {
            Recv::Body if stream.allowance.receive(len) => None,
            Recv::Body => Some(Reason::FLOW_CONTROL_ERROR),
            Recv::Head => Some(Reason::PROTOCOL_ERROR),
            Recv::Ended | Recv::Broken => Some(Reason::STREAM_CLOSED),
        };
        if let Some(reason) = wrong {
            self.release_connection(len);
            return self.refuse_frame(id, Some(slot), reason);
        }
        stream.unreleased += len;
        if !data.is_empty() {
            collect(&mut stream.inbox, data);
        }
        if end {
            stream.recv = Recv::Ended;
        }
        stream.wake_reader();
        if len > data.len() {
            // Padding is consumed by nobody else.
            self.release(slot, len - data.len());
        }
        if end {
            self.settle(slot);
        } else if data.is_empty() {
            return self.guard.count(Frame::Empty, self.now_ms);
        }
        Ok(())
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        let id = head.stream;
        // Streams of ours begin with us, the peer's have its ids.
        let possible = if self.role == Role::Server { self.role.is_peers(id) } else { !self.is_idle(id) };
        if id == 0 || !possible {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let mut block = frame::unpadded(head, payload)?;
        if head.has(flag::PRIORITY) {
            block = block.get(5..).ok_or(Reason::FRAME_SIZE_ERROR)?;
        }
        let end_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.block(id, end_stream, block);
        }
        self.block = Some(Block { stream: id, end_stream, bytes: BytesMut::from(block), frames: 0 });
        Ok(())
    }

    fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        let most = (self.config.header_list as usize * BLOCK_LISTS).max(MIN_BLOCK);
        let block = self.block.as_mut().filter(|block| block.stream == head.stream);
        let block = block.ok_or(Reason::PROTOCOL_ERROR)?;
        block.frames += 1;
        block.bytes.extend_from_slice(payload);
        if block.frames >= MAX_CONTINUATIONS || block.bytes.len() > most {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if head.has(flag::END_HEADERS)
            && let Some(block) = self.block.take()
        {
            return self.block(block.stream, block.end_stream, &block.bytes);
        }
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        let increment = payload.try_into().map(number).map_err(|_| Reason::FRAME_SIZE_ERROR)? & MAX_31;
        self.guard.count(Frame::Window, self.now_ms)?;
        if head.stream == 0 {
            if increment == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            if !self.credit.open(increment) {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            self.resume();
            return Ok(());
        }
        let Some(slot) = self.streams.find(head.stream) else {
            return if self.is_idle(head.stream) { Err(Reason::PROTOCOL_ERROR) } else { Ok(()) };
        };
        if increment == 0 {
            return self.refuse_frame(head.stream, Some(slot), Reason::PROTOCOL_ERROR);
        }
        if !self.streams.get_mut(slot).credit.open(increment) {
            return self.refuse_frame(head.stream, Some(slot), Reason::FLOW_CONTROL_ERROR);
        }
        self.resume_stream(slot);
        Ok(())
    }

    fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        let code = payload.try_into().map(number).map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        if head.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        match self.streams.find(head.stream) {
            Some(slot) => self.reset_by_peer(slot, code.into()),
            None if self.is_idle(head.stream) => Err(Reason::PROTOCOL_ERROR),
            None => self.guard.count(Frame::Late, self.now_ms),
        }
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if head.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(Reason::FRAME_SIZE_ERROR);
            }
            self.acknowledged();
            return self.guard.count(Frame::Settings, self.now_ms);
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        for (id, value) in frame::settings(payload) {
            self.setting(id, value)?;
        }
        frame::put_settings_ack(self.out());
        self.guard.count(Frame::Settings, self.now_ms)
    }

    /// The peer knows our settings: the window of its streams is ours from now on.
    fn acknowledged(&mut self) {
        if std::mem::replace(&mut self.settings_acknowledged, true) {
            return;
        }
        self.stream_window = self.config.stream_window;
        for slot in self.streams.slots() {
            self.streams.get_mut(slot).allowance.resize(self.stream_window);
        }
    }

    fn setting(&mut self, id: u16, value: u32) -> Result<(), Reason> {
        match id {
            setting::HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
            setting::ENABLE_PUSH if value > 1 => return Err(Reason::PROTOCOL_ERROR),
            setting::MAX_CONCURRENT_STREAMS => self.peer.max_streams = value as usize,
            setting::INITIAL_WINDOW_SIZE => return self.initial_window(value),
            setting::MAX_FRAME_SIZE => {
                if !(MIN_MAX_FRAME..1 << 24).contains(&value) {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                // Larger frames would only make others wait.
                self.peer.max_frame = MIN_MAX_FRAME as usize;
            }
            _ => {}
        }
        Ok(())
    }

    /// Changes the windows of all streams (RFC 9113, section 6.9.2).
    fn initial_window(&mut self, value: u32) -> Result<(), Reason> {
        if value > MAX_31 {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        let delta = i64::from(value) - i64::from(self.peer.initial_window);
        self.peer.initial_window = value;
        for slot in self.streams.slots() {
            if !self.streams.get_mut(slot).credit.shift(delta) {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            if delta > 0 {
                self.resume_stream(slot);
            }
        }
        Ok(())
    }

    fn pinged(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        let payload: [u8; 8] = payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if !head.has(flag::ACK) {
            frame::put_ping(self.out(), flag::ACK, payload);
            return self.guard.count(Frame::Ping, self.now_ms);
        }
        match payload {
            GOODBYE_PING => self.goodbye_heard(),
            USER_PING if self.ping.sent => {
                (self.ping.sent, self.ping.answered) = (false, true);
                if let Some(waker) = self.ping.waker.take() {
                    waker.wake();
                }
            }
            _ => return self.guard.count(Frame::Ping, self.now_ms),
        }
        Ok(())
    }

    fn goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        let fixed: &[u8; 8] = payload.first_chunk().ok_or(Reason::FRAME_SIZE_ERROR)?;
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let last = number(&[fixed[0], fixed[1], fixed[2], fixed[3]]) & MAX_31;
        let reason = Reason::from(number(&[fixed[4], fixed[5], fixed[6], fixed[7]]));
        self.heard = Some(reason);
        if self.role == Role::Client {
            for slot in self.streams.slots() {
                if self.streams.get(slot).id > last {
                    self.break_stream(slot, Error::go_away(reason, By::Peer));
                }
            }
        }
        self.guard.count(Frame::Settings, self.now_ms)
    }
}
