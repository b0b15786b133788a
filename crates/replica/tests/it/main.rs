//! Tests of the driver and the apply side through their public face.

mod arbitrary;
mod bugs;
mod driver;
mod overload;
mod reads;
mod scripted;
mod slow_disks;
mod stored_values;
