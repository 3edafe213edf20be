//! The kernel's routing socket (rtnetlink(7)): the few requests that moving a device takes.
//!
//! What lives here: requests and answers as bytes. What may not: any decision about devices.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::cell::Cell;

/// A routing socket.
#[derive(Debug)]
pub(super) struct Route {
    socket: OwnedFd,
    /// The number of the last request. Its answers carry it, so that those to an earlier request, which was abandoned,
    /// are not taken for them.
    last_request: Cell<u32>,
}

/// A device, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its number, in its namespace.
    pub(super) index: i32,
    /// `IFF_UP` (netdevice(7)).
    pub(super) up: bool,
}

/// An address that a device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    family: u8,
    prefix: u8,
    flags: u8,
    /// Those in [`KEPT`]: kinds and values.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// The attributes that define an address. The kernel derives or counts the others.
const KEPT: [u16; 4] = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST, libc::IFA_FLAGS];

/// The most bytes of one answer: twice the kernel's own limit for a part of a list.
const MAX_ANSWER: usize = 64 << 10;

impl From<OwnedFd> for Route {
    fn from(socket: OwnedFd) -> Self {
        Self { socket, last_request: Cell::new(0) }
    }
}

impl AsFd for Route {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Route {
    /// Opens one in this thread's network namespace.
    pub(super) fn open() -> Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        // No protocol means protocol 0, which is NETLINK_ROUTE.
        socket_with(family, SocketType::RAW, flags, None)
            .map(Self::from)
            .os(|| "socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)")
    }

    /// Finds the device `name`, if there is one.
    pub(super) fn find(&self, name: &str) -> Result<Option<Link>> {
        match self.link(name) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            found => found.map(Some),
        }
    }

    /// The device `name`.
    pub(super) fn link(&self, name: &str) -> Result<Link> {
        let request =
            NetlinkRequest::about_link(libc::RTM_GETLINK, 0, 0).attribute(IFLA_IFNAME, &terminated(name));
        let answers = self.ask(request).os(|| format!("RTM_GETLINK({name:?})"))?;
        let link = answers.iter().find(|(kind, _)| *kind == libc::RTM_NEWLINK);
        let link = link.and_then(|(_, body)| {
            Some(Link { index: number(body, 4)?, up: number(body, 8)? & libc::IFF_UP != 0 })
        });
        link.ok_or_else(|| Error::new(ErrorKind::PeerMisbehaved, "RTM_GETLINK", "an answer without a device"))
    }

    /// Moves the device `index` to `namespace`, names it `name` there, and sets it up if `up`.
    pub(super) fn move_link(
        &self,
        index: i32,
        namespace: BorrowedFd<'_>,
        name: &str,
        up: bool,
    ) -> Result<()> {
        let namespace = namespace.as_raw_fd().to_ne_bytes();
        let flags = if up { libc::IFF_UP } else { 0 };
        let request = NetlinkRequest::about_link(libc::RTM_SETLINK, index, flags)
            .attribute(IFLA_NET_NS_FD, &namespace)
            .attribute(IFLA_IFNAME, &terminated(name));
        self.ask(request).map(drop).os(|| format!("RTM_SETLINK({index}, IFLA_NET_NS_FD, {name:?})"))
    }

    /// The addresses of the device `index` that are valid in another namespace: permanent, and of global scope.
    pub(super) fn addresses(&self, index: i32) -> Result<Vec<Address>> {
        let request = NetlinkRequest::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; ADDRESS_HEADER]);
        let answers = self.ask(request).os(|| "RTM_GETADDR")?;
        let addresses = answers.iter().filter(|(kind, _)| *kind == libc::RTM_NEWADDR);
        Ok(addresses.filter_map(|(_, body)| Address::read(body, index)).collect())
    }

    /// Adds an address to the device `index`.
    pub(super) fn add_address(&self, index: i32, address: &Address) -> Result<()> {
        let Address { family, prefix, flags, attributes } = address;
        let header = [[*family, *prefix, *flags, libc::RT_SCOPE_UNIVERSE], index.to_ne_bytes()].concat();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let request = NetlinkRequest::new(libc::RTM_NEWADDR, flags, &header);
        let request =
            attributes.iter().fold(request, |request, (kind, value)| request.attribute(*kind, value));
        self.ask(request).map(drop).os(|| format!("RTM_NEWADDR({index})"))
    }

    /// Sends a request and receives its answers, up to the last: kinds and bodies.
    fn ask(&self, request: NetlinkRequest) -> Result<Vec<(u16, Vec<u8>)>, Errno> {
        let sequence = self.last_request.get().wrapping_add(1);
        self.last_request.set(sequence);
        let request = request.finish(sequence);
        retry_on_intr(|| send(&self.socket, &request, SendFlags::empty()))?;
        let mut answers = Vec::new();
        let mut bytes = vec![0; MAX_ANSWER];
        loop {
            let (_, count) = retry_on_intr(|| recv(&self.socket, bytes.as_mut_slice(), RecvFlags::TRUNC))?;
            let mut rest = bytes.get(..count).ok_or(Errno::MSGSIZE)?;
            while let Some((Answer { kind, sequence: of, body }, after)) = split_message(rest) {
                rest = after;
                match i32::from(kind) {
                    _ if of != sequence => {}
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        return match number(body, 0).unwrap_or(0) {
                            0 => Ok(answers),
                            errno => Err(Errno::from_raw_os_error(-errno)),
                        };
                    }
                    _ => answers.push((kind, body.to_vec())),
                }
            }
        }
    }
}

impl Address {
    /// Reads an `ifaddrmsg` and its attributes. `None` unless it is an address of device `of` to be kept.
    fn read(body: &[u8], of: i32) -> Option<Self> {
        let ([family, prefix, flags, scope], index) = (*body.first_chunk()?, number(body, 4)?);
        let mut attributes = Vec::new();
        let mut rest = body.get(ADDRESS_HEADER..)?;
        while let Some((kind, value, after)) = split_attribute(rest) {
            rest = after;
            if KEPT.contains(&kind) {
                attributes.push((kind, value.to_vec()));
            }
        }
        // IFA_FLAGS, if the kernel sends it, includes the flags of the header.
        let wider = attributes.iter().find(|(kind, _)| *kind == libc::IFA_FLAGS);
        let wider = wider.and_then(|(_, value)| number(value, 0)).map_or(flags.into(), i32::cast_unsigned);
        let kept = index == of && scope == libc::RT_SCOPE_UNIVERSE && wider & libc::IFA_F_PERMANENT != 0;
        kept.then_some(Self { family, prefix, flags, attributes })
    }
}

/// Attributes that follow an `ifinfomsg` (linux/if_link.h).
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;

/// The sizes of `nlmsghdr`, `rtattr` and `ifaddrmsg` (linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h).
const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const ADDRESS_HEADER: usize = 8;

/// A request under construction.
struct NetlinkRequest(Vec<u8>);

impl NetlinkRequest {
    /// A request of this kind, which the kernel acknowledges.
    fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    /// A request with an `ifinfomsg`. Of the device's flags it sets only `IFF_UP`, as in `flags`.
    fn about_link(kind: u16, index: i32, flags: i32) -> Self {
        let numbers = [0, index, flags, libc::IFF_UP];
        Self::new(kind, 0, &numbers.map(i32::to_ne_bytes).concat())
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(aligned(self.0.len()), 0);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// `NLMSG_ALIGN` and `RTA_ALIGN`.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().copied().map(i32::from_ne_bytes)
}

/// A message from the kernel.
struct Answer<'a> {
    kind: u16,
    /// The number of the request to which this is an answer.
    sequence: u32,
    body: &'a [u8],
}

/// Splits off the first message.
fn split_message(bytes: &[u8]) -> Option<(Answer<'_>, &[u8])> {
    let length = number(bytes, 0).map(i32::cast_unsigned)? as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let sequence = number(bytes, 8).map(i32::cast_unsigned)?;
    let message = Answer { kind, sequence, body: bytes.get(HEADER..length)? };
    Some((message, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// Splits off the first attribute: its kind, its value, and the rest.
fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
    Some((kind, bytes.get(ATTRIBUTE_HEADER..length)?, bytes.get(aligned(length)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_name() {
        let route = Route::open().unwrap();
        assert_eq!(route.link("lo").unwrap().index, 1);
        let error = route.link("nosuchdevice").unwrap_err();
        assert_eq!(error.to_string(), "RTM_GETLINK(\"nosuchdevice\"): ENODEV: No such device");
    }

    #[test]
    fn answers_to_an_abandoned_request_are_not_taken_for_the_next_ones() {
        let route = Route::open().unwrap();
        let abandoned =
            NetlinkRequest::about_link(libc::RTM_GETLINK, 0, 0).attribute(IFLA_IFNAME, b"nosuchdevice\0");
        send(&route.socket, &abandoned.finish(0), SendFlags::empty()).unwrap();
        assert_eq!(route.link("lo").unwrap().index, 1);
    }

    #[test]
    fn addresses_that_are_valid_elsewhere_are_kept() {
        let (family, permanent) = (libc::AF_INET as u8, libc::IFA_F_PERMANENT as u8);
        let body = |flags: u8, scope: u8| {
            let header = [[family, 24, flags, scope], 7_i32.to_ne_bytes()].concat();
            // The label (3) is not kept, because the kernel makes it again.
            let request = NetlinkRequest::new(libc::RTM_NEWADDR, 0, &header)
                .attribute(libc::IFA_LOCAL, &[10, 0, 0, 1])
                .attribute(3, b"eth0\0");
            request.finish(1)[HEADER..].to_vec()
        };
        let read = Address::read(&body(permanent, 0), 7).unwrap();
        assert_eq!(read.attributes, [(libc::IFA_LOCAL, vec![10, 0, 0, 1])]);
        assert_eq!((read.family, read.prefix), (family, 24));
        assert_eq!(Address::read(&body(0, 0), 7), None, "leased");
        assert_eq!(Address::read(&body(permanent, 253), 7), None, "of the link");
        assert_eq!(Address::read(&body(permanent, 0), 8), None, "another device's");
    }

    #[test]
    fn a_message_that_is_cut_short_is_none() {
        let whole =
            NetlinkRequest::about_link(libc::RTM_SETLINK, 1, 0).attribute(IFLA_IFNAME, b"x\0").finish(7);
        let (Answer { kind, sequence, body }, rest) = split_message(&whole).unwrap();
        assert_eq!((kind, sequence, body.len(), rest.len()), (libc::RTM_SETLINK, 7, 24, 0));
        assert!((0..whole.len()).all(|length| split_message(&whole[..length]).is_none()));
    }
}
