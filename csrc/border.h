// The border between Python and C++, the same for both modules: structs by name.
//   Python hands over addresses and sizes. A struct comes as a dict of its members, and is bound by a list of
//   them, each beside its name; nothing is told apart by its place, where two addresses that changed places
//   would corrupt memory without a word. A name that is missing, misspelt or too much raises TypeError.
// Dicts and no pybind11 classes: an object costs several times as much, which a call on a few rows would feel.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "embeddings.h"
#include "search_filter.h"

namespace pyhbt::border {

namespace py = pybind11;
using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// One of the values of an enum, under the name that it has in Python.
template <typename Enum>
struct Choice {
  const char* name;
  Enum value;
};

template <typename Enum, size_t kCount>
std::vector<std::string> names_of(const Choice<Enum> (&choices)[kCount]) {
  std::vector<std::string> names;
  for (const Choice<Enum>& choice : choices) names.emplace_back(choice.name);
  return names;
}

inline std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

template <typename Enum, size_t kCount>
Enum chosen(const char* what, const std::string& name, const Choice<Enum> (&choices)[kCount]) {
  for (const Choice<Enum>& choice : choices)
    if (name == choice.name) return choice.value;
  throw std::invalid_argument(std::string(what) + ": found '" + name + "', expected one of " +
                              joined(names_of(choices)));
}

// The tables of dtypes: pyhbt/ops/dtypes.py reads the names from the module. Vectors are what search takes.
constexpr Choice<DType> kDTypes[] = {
    {"float32", DType::kFloat32}, {"float16", DType::kFloat16}, {"bfloat16", DType::kBFloat16}};
constexpr Choice<DType> kVectorDTypes[] = {
    {"float32", DType::kFloat32}, {"float16", DType::kFloat16},          {"bfloat16", DType::kBFloat16},
    {"int8", DType::kInt8},       {"float8_e4m3fn", DType::kFloat8E4M3}, {"float8_e5m2", DType::kFloat8E5M2}};

// The members of a struct, each by its name in Python; reads a struct from a dict.
template <typename Struct>
class Members {
 public:
  explicit Members(const char* of) : of_(of) {}

  // A member given as the address of its first number; 0 is a null pointer.
  template <typename T>
  Members& address(const char* name, T* Struct::* member) {
    return add(name, [member](Struct& out, py::handle given) { out.*member = at<T>(given.cast<Address>()); });
  }

  // Given as it is: a number or a truth value.
  template <typename T>
  Members& value(const char* name, T Struct::* member) {
    return add(name, [member](Struct& out, py::handle given) { out.*member = given.cast<T>(); });
  }

  // Given by the name of a choice.
  template <typename Enum, size_t kCount>
  Members& choice(const char* name, Enum Struct::* member, const Choice<Enum> (&choices)[kCount]) {
    return add(name, [name, member, &choices](Struct& out, py::handle given) {
      out.*member = chosen(name, given.cast<std::string>(), choices);
    });
  }

  // A struct in the struct, given as a dict.
  template <typename T, typename Part>
  Members& part(const char* name, T Struct::* member, const Members<Part>& members) {
    return add(name, [member, &members](Struct& out, py::handle given) {
      out.*member = members.read(given.cast<py::dict>());
    });
  }

  // The same, or None, which leaves it as it is by default.
  template <typename T, typename Part>
  Members& part_or_none(const char* name, T Struct::* member, const Members<Part>& members) {
    return add(name, [member, &members](Struct& out, py::handle given) {
      if (!given.is_none()) out.*member = members.read(given.cast<py::dict>());
    });
  }

  Struct read(const py::dict& given) const {
    Struct filled{};
    for (const Member& member : members_) {
      const py::handle value = PyDict_GetItemWithError(given.ptr(), member.key);
      if (!value) refuse("found no " + std::string(member.name));
      take(member, value, filled);
    }
    if (given.size() != members_.size()) refuse_unknown(given);
    return filled;
  }

  // For Python to compare with what it gives.
  void show_names(py::dict structs) const { structs[of_] = py::tuple(py::cast(names())); }

 private:
  using Take = std::function<void(Struct&, py::handle)>;
  struct Member {
    const char* name;
    PyObject* key;  // the name as Python keeps it, for ever: looking it up costs little
    Take take;
  };

  Members& add(const char* name, Take take) {
    members_.push_back({name, PyUnicode_InternFromString(name), std::move(take)});
    return *this;
  }

  void take(const Member& member, py::handle value, Struct& filled) const {
    try {
      member.take(filled, value);
    } catch (const py::cast_error&) {
      throw py::type_error(std::string(of_) + ": " + member.name + ": found " +
                           py::repr(value).cast<std::string>() + ", expected another type");
    }
  }

  [[noreturn]] void refuse_unknown(const py::dict& given) const {
    for (const auto& item : given) {
      const auto is_it = [&](const Member& member) { return item.first.equal(py::handle(member.key)); };
      if (std::none_of(members_.begin(), members_.end(), is_it))
        refuse("found " + py::repr(item.first).cast<std::string>());
    }
    refuse("found a member twice");
  }

  [[noreturn]] void refuse(const std::string& found) const {
    throw py::type_error(std::string(of_) + ": " + found + ", expected " + joined(names()));
  }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Member& member : members_) names.emplace_back(member.name);
    return names;
  }

  const char* of_;  // the name of the struct
  std::vector<Member> members_;
};

// What both modules take.

template <size_t kCount>
Members<Embeddings> matrix_of(const Choice<DType> (&dtypes)[kCount]) {
  return Members<Embeddings>("Matrix")
      .address("address", &Embeddings::data)
      .choice("dtype", &Embeddings::dtype, dtypes)
      .value("rows", &Embeddings::rows)
      .value("dim", &Embeddings::dim)
      .value("stride", &Embeddings::stride);
}

inline const Members<Embeddings>& matrix() {
  static const Members<Embeddings> members = matrix_of(kDTypes);
  return members;
}

inline const Members<Embeddings>& vectors() {
  static const Members<Embeddings> members = matrix_of(kVectorDTypes);
  return members;
}

inline const Members<SearchFilter>& filter() {
  static const Members<SearchFilter> members =
      Members<SearchFilter>("Filter")
          .address("allowed", &SearchFilter::allowed)
          .address("passage_partitions", &SearchFilter::passage_partitions)
          .value("num_partitions", &SearchFilter::num_partitions)
          .address("query_partitions", &SearchFilter::query_partitions)
          .value("partitions_per_query", &SearchFilter::partitions_per_query)
          .address("excluded", &SearchFilter::excluded)
          .value("excluded_per_query", &SearchFilter::excluded_per_query);
  return members;
}

inline void show_dtypes(py::module_& m) { m.attr("DTYPES") = py::tuple(py::cast(names_of(kDTypes))); }

// STRUCTS: the names of the members of each struct that the module takes.
template <typename... Structs>
void show_structs(py::module_& m, const Members<Structs>&... members) {
  py::dict structs;
  (members.show_names(structs), ...);
  m.attr("STRUCTS") = structs;
}

}  // namespace pyhbt::border
